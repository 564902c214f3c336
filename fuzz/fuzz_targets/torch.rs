//! `cargo +nightly fuzz run torch -- -max_total_time=600` (seed the corpus with tests/data/torch).
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use softdimo::checkpoint::Mapping;
use softdimo::checkpoint::torch::TorchFile;

fuzz_target!(|bytes: &[u8]| {
    let mapping = Arc::new(Mapping::from_vec(bytes.to_vec()));
    let Ok(file) = TorchFile::open(mapping, "fuzz") else { return };
    for name in file.names() {
        let view = file.get(name).unwrap();
        assert_eq!(view.data.len(), view.shape.len() * view.dtype.size());
    }
});
