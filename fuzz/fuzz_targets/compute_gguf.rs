//! GGUF files: any bytes give a header or an error, a header keeps its word about where tensors lie, and a model that loads
//! has an identity. `dn-compute`'s tests try the same with changed and cut files on every run.
#![no_main]

use dn_compute::Model;
use dn_compute::formats::gguf::Gguf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(gguf) = Gguf::parse(file) else { return };
    for tensor in gguf.tensors() {
        let end = tensor.start + tensor.size;
        assert!(end <= file.len() as u64, "{} ends at {end}", tensor.name);
    }
    if let Ok(model) = Model::from_bytes(file.to_vec()) {
        let proof = model.prove_tile(0).expect("a model has tensors");
        assert!(proof.1.verify(model.manifest().tensors_root, &dn_core::Canonical::to_bytes(&proof.0)).is_ok());
    }
});
