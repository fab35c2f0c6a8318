//! Any bytes are a safetensors header or an error; the tensors of a header lie inside the file and share nothing.
#![no_main]

use dn_compute::formats::safetensors::Safetensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = Safetensors::parse(data) {
        let total: u64 = read.tensors().iter().map(|t| t.size).sum();
        assert!(total <= data.len() as u64);
        for tensor in read.tensors() {
            assert!(tensor.start + tensor.size <= data.len() as u64);
            assert_eq!(read.tensor(&tensor.name), Some(tensor));
        }
    }
});
