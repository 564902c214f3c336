//! A safetensors file taken apart, without this library's help.

use std::path::Path;

use serde_json::Value;

#[derive(Clone)]
pub struct File {
    pub header: Value,
    pub data: Vec<u8>,
}

impl File {
    pub fn read(path: &Path) -> File {
        let bytes = std::fs::read(path).unwrap();
        let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        File { header: serde_json::from_slice(&bytes[8..8 + n]).unwrap(), data: bytes[8 + n..].to_vec() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut header = self.header.to_string();
        header.push_str(&" ".repeat(header.len().next_multiple_of(64) - header.len() + 56));
        let length = (header.len() as u64).to_le_bytes();
        [length.as_slice(), header.as_bytes(), &self.data].concat()
    }

    /// The bytes of a tensor.
    pub fn tensor(&mut self, name: &str) -> &mut [u8] {
        let range = self.header[name]["data_offsets"].clone();
        let at = |i: usize| range[i].as_u64().unwrap() as usize;
        &mut self.data[at(0)..at(1)]
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        let tensor = self.header.as_object_mut().unwrap().remove(from).unwrap();
        self.header[to] = tensor;
    }

    pub fn metadata(&mut self) -> &mut serde_json::Map<String, Value> {
        self.header["__metadata__"].as_object_mut().unwrap()
    }

    /// Change the configuration, itself JSON inside the metadata.
    pub fn config(&mut self, change: impl FnOnce(&mut Value)) {
        let text = self.metadata()["softdimo.config"].as_str().unwrap().to_string();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        change(&mut config);
        self.metadata().insert("softdimo.config".into(), config.to_string().into());
    }
}
