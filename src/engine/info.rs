//! JSON descriptions of engines and providers, for the C ABI and the CLI.

use serde_json::json;

use super::Engine;
use crate::runtime::{MemoryMode, Provider, loaded};

impl Engine {
    /// Model, architecture, sizes, labels, defaults, provider and runtime as one JSON object.
    pub fn info_json(&self) -> String {
        let model = self.model();
        let layout = model.architecture().layout();
        let metadata = model.metadata();
        let value = json!({
            "model": metadata.get("modelspec.title"),
            "license": metadata.get("modelspec.license"),
            "family": model.architecture().name(),
            "components": model.components(),
            "width": layout.width,
            "height": layout.height,
            "channels": layout.channels,
            "background": model.background().map(|byte| format!("{byte:02x}")).concat(),
            "positions": layout.positions,
            "splits": layout.splits,
            "codes": layout.codes,
            "mask_token": layout.mask_token,
            "embedding": layout.embedding,
            "classes": layout.classes,
            "grid": layout.grid,
            "labels": model.labels().len(),
            "config": model.config(),
            "quantization": metadata.get("softdimo.quantization"),
            "provider": self.options().provider.name(),
            "memory_mode": if self.options().memory == MemoryMode::Lean { "lean" } else { "fast" },
            "threads": self.threads(),
            "sessions": self.assignments(),
            "runtime": { "version": self.runtime().version, "path": self.runtime().path },
            "library": env!("CARGO_PKG_VERSION"),
        });
        value.to_string()
    }
}

impl Provider {
    /// Name and availability as a JSON object.
    pub fn info_json(self) -> String {
        let available = self.availability(loaded().as_ref());
        json!({ "name": self.name(), "available": available.is_ok(), "reason": available.err() }).to_string()
    }
}
