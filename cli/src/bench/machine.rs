//! The machine that was measured on, for figures that leave it.

use std::fmt;

use serde::Serialize;

/// Vector extensions that kernels differ by.
const KNOWN: [&str; 9] =
    ["avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp"];

#[derive(Debug, Serialize)]
pub struct Machine {
    /// "unknown" where there is no /proc/cpuinfo.
    pub cpu: String,
    /// Of [`KNOWN`], those it has.
    pub flags: Vec<&'static str>,
    /// Processors that this process may use.
    pub cores: usize,
    pub platform: String,
}

impl Machine {
    pub fn this() -> Machine {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(": ")).map(|(_, value)| value)
        };
        // ARM64 calls them features, and has no name.
        let flags: Vec<&str> =
            field("flags").or(field("Features")).unwrap_or_default().split_whitespace().collect();
        Machine {
            cpu: field("model name").unwrap_or("unknown").to_string(),
            flags: KNOWN.into_iter().filter(|flag| flags.contains(flag)).collect(),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}), {} cores", self.cpu, self.flags.join(" "), self.cores)
    }
}
