//! Any bytes after a package's first eight are a package or an error.
#![no_main]

use dn_compute::Model;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut file = b"DNMODEL1".to_vec();
    file.extend_from_slice(data);
    if let Ok(model) = Model::from_bytes(file) {
        assert!(model.tiles().count() > 0);
    }
});
