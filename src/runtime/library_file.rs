//! Whether a file can be handed to the system's loader. The loader trusts what it maps: a library that was cut short ends the
//! process (`SIGBUS`) where an error is wanted, and a pipe of the library's name makes it wait for ever.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

type Checked<T = ()> = Result<T, String>;

/// Most program headers, sections or load commands of a library that is looked at; ONNX Runtime has some 10 and 40.
const MOST: u64 = 4096;

/// Refuse what is no complete shared library for this machine; the reason says what was expected and what was found.
pub(super) fn check(path: &Path) -> Checked {
    let kind = std::fs::metadata(path).map_err(|e| e.to_string())?.file_type();
    if !kind.is_file() {
        let found = if kind.is_dir() { "a directory" } else { "a device, pipe or socket" };
        return Err(format!("expected a regular file, found {found}"));
    }
    let file = File::open(path).map_err(|e| e.to_string())?;
    let size = file.metadata().map_err(|e| e.to_string())?.len();
    let mut bytes = Bytes { source: file, size };
    if cfg!(windows) {
        bytes.pe()
    } else if cfg!(target_vendor = "apple") {
        bytes.mach_o()
    } else {
        bytes.elf()
    }
}

/// A file of integers, read where its format says; all within `size`.
struct Bytes<S> {
    source: S,
    size: u64,
}

impl<S: Read + Seek> Bytes<S> {
    /// `count` bytes at `offset`.
    fn read(&mut self, offset: u64, count: u64, what: &str) -> Checked<Vec<u8>> {
        self.holds(offset, count, what)?;
        let mut bytes = vec![0; count as usize];
        let read = self.source.seek(SeekFrom::Start(offset)).and_then(|_| self.source.read_exact(&mut bytes));
        read.map(|()| bytes).map_err(|e| format!("{what}: {e}"))
    }

    /// That the file reaches to the end of `count` bytes at `offset`.
    fn holds(&self, offset: u64, count: u64, what: &str) -> Checked {
        match offset.checked_add(count) {
            Some(end) if end <= self.size => Ok(()),
            end => {
                let end = end.map_or("more than 2^64".into(), |end| end.to_string());
                Err(format!(
                    "expected {end} bytes, to the end of its {what}, found {}: it was cut short",
                    self.size
                ))
            }
        }
    }

    /// Its first bytes.
    fn start(&mut self, count: u64) -> Checked<Vec<u8>> {
        self.read(0, count.min(self.size), "header")
    }

    fn elf(&mut self) -> Checked {
        let wide = cfg!(target_pointer_width = "64");
        let (header_size, program_size, section_size) = if wide { (64, 56, 64) } else { (52, 32, 40) };
        let expected = format!("expected an ELF shared library for {}, found", std::env::consts::ARCH);
        let start = self.start(header_size)?;
        if !start.starts_with(b"\x7fELF") {
            return Err(format!("{expected} {}", describe(&start, self.size)));
        }
        let h = self.read(0, header_size, "ELF header")?;
        let class = if wide { 2 } else { 1 };
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        if h[4] != class {
            return Err(format!("{expected} one of {} bits", if h[4] == 2 { 64 } else { 32 }));
        }
        if h[5] != order {
            return Err(format!("{expected} one of the other byte order"));
        }
        if let Some(machine) = elf_machine()
            && number(&h, 18, 2) != machine
        {
            return Err(format!("{expected} one for machine {} ({machine} is this one)", number(&h, 18, 2)));
        }
        if number(&h, 16, 2) != 3 {
            return Err(format!("{expected} an ELF file of another type ({})", number(&h, 16, 2)));
        }
        // Where the header has the tables' places, and how many entries of which size.
        let (programs, sections, counts) = match wide {
            true => (number(&h, 32, 8), number(&h, 40, 8), 54),
            false => (number(&h, 28, 4), number(&h, 32, 4), 42),
        };
        let [program, count, section, section_count] = [0, 2, 4, 6].map(|at| number(&h, counts + at, 2));
        if program != program_size || count == 0 || count > MOST {
            return Err(format!(
                "expected 1 to {MOST} program headers of {program_size} bytes, found {count} of {program}"
            ));
        }
        if sections != 0 {
            if section != section_size {
                return Err(format!("expected section headers of {section_size} bytes, found {section}"));
            }
            self.holds(sections, section_count * section, "section headers")?;
        }
        let table = self.read(programs, count * program, "program headers")?;
        let (mut loaded, mut dynamic) = (false, false);
        for entry in table.chunks_exact(program as usize) {
            let (offset, in_file, in_memory) = match wide {
                true => (number(entry, 8, 8), number(entry, 32, 8), number(entry, 40, 8)),
                false => (number(entry, 4, 4), number(entry, 16, 4), number(entry, 20, 4)),
            };
            match number(entry, 0, 4) {
                1 => {
                    loaded = true;
                    if in_file > in_memory {
                        return Err(format!(
                            "expected a segment of at most {in_memory} bytes, found {in_file}"
                        ));
                    }
                }
                2 => dynamic = in_file > 0,
                _ => continue,
            }
            self.holds(offset, in_file, "segments")?;
        }
        match (loaded, dynamic) {
            (true, true) => Ok(()),
            _ => Err(format!(
                "{expected} an ELF file without {}",
                if loaded { "a dynamic segment" } else { "segments" }
            )),
        }
    }

    fn pe(&mut self) -> Checked {
        let expected = format!("expected a Windows DLL for {}, found", std::env::consts::ARCH);
        let start = self.start(64)?;
        if !start.starts_with(b"MZ") || start.len() < 64 {
            return Err(format!("{expected} {}", describe(&start, self.size)));
        }
        let at = number(&start, 60, 4);
        let h = self.read(at, 24, "PE header")?;
        if !h.starts_with(b"PE\0\0") {
            return Err(format!("{expected} a program of another system"));
        }
        let machine = match std::env::consts::ARCH {
            "x86_64" => Some(0x8664),
            "aarch64" => Some(0xaa64),
            "x86" => Some(0x14c),
            _ => None,
        };
        if machine.is_some_and(|machine| machine != number(&h, 4, 2)) || number(&h, 22, 2) & 0x2000 == 0 {
            return Err(format!(
                "{expected} machine {:#x}, flags {:#x}",
                number(&h, 4, 2),
                number(&h, 22, 2)
            ));
        }
        let sections =
            self.read(at + 24 + number(&h, 20, 2), 40 * number(&h, 6, 2).min(MOST), "section headers")?;
        sections.chunks_exact(40).try_for_each(|s| self.holds(number(s, 20, 4), number(s, 16, 4), "sections"))
    }

    fn mach_o(&mut self) -> Checked {
        let expected = format!("expected a Mach-O library for {}, found", std::env::consts::ARCH);
        let start = self.start(32)?;
        if start.starts_with(&0xcafe_babe_u32.to_be_bytes()) {
            // Of several machines: each part lies within the file.
            let count = self.read(4, 4, "fat header")?;
            let count = u64::from(u32::from_be_bytes([count[0], count[1], count[2], count[3]]));
            let parts = self.read(8, 20 * count.min(MOST), "fat headers")?;
            let big = |part: &[u8], at: usize| part[at..at + 4].iter().fold(0, |n, b| n << 8 | u64::from(*b));
            return parts.chunks_exact(20).try_for_each(|p| self.holds(big(p, 8), big(p, 12), "parts"));
        }
        if start.len() < 32 || number(&start, 0, 4) != 0xfeed_facf {
            return Err(format!("{expected} {}", describe(&start, self.size)));
        }
        let machine = match std::env::consts::ARCH {
            "x86_64" => Some(0x0100_0007),
            "aarch64" => Some(0x0100_000c),
            _ => None,
        };
        if machine.is_some_and(|machine| machine != number(&start, 4, 4)) || number(&start, 12, 4) != 6 {
            return Err(format!(
                "{expected} machine {:#x}, type {}",
                number(&start, 4, 4),
                number(&start, 12, 4)
            ));
        }
        let commands = self.read(32, number(&start, 20, 4), "load commands")?;
        let mut rest = commands.as_slice();
        while rest.len() >= 8 {
            let size = number(rest, 4, 4) as usize;
            if size < 8 || size > rest.len() {
                return Err(format!("expected a load command of 8 to {} bytes, found {size}", rest.len()));
            }
            // LC_SEGMENT_64
            if number(rest, 0, 4) == 0x19 && size >= 72 {
                self.holds(number(rest, 40, 8), number(rest, 48, 8), "segments")?;
            }
            rest = &rest[size..];
        }
        Ok(())
    }
}

/// The unsigned integer of `size` bytes at `at`, in this machine's byte order.
fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let push = |n: u64, b: &u8| n << 8 | u64::from(*b);
    let bytes = &bytes[at..at + size];
    if cfg!(target_endian = "little") { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) }
}

/// ELF's number of this machine, where it is known.
fn elf_machine() -> Option<u64> {
    Some(match std::env::consts::ARCH {
        "x86" => 3,
        "arm" => 40,
        "x86_64" => 62,
        "aarch64" => 183,
        "riscv64" => 243,
        "loongarch64" => 258,
        _ => return None,
    })
}

/// What a file that is no library may be.
fn describe(start: &[u8], size: u64) -> String {
    let kind = match start {
        [] => return "an empty file".into(),
        [b'M', b'Z', ..] => "a Windows (PE) file",
        [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "a macOS (Mach-O) file",
        [0x7f, b'E', b'L', b'F', ..] => "an ELF file",
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => "an archive (a static library or a package)",
        [b'P', b'K', 3, 4, ..] => "a zip archive (a Python wheel?)",
        [0x1f, 0x8b, ..] => "a gzip archive",
        _ => {
            let text: String = start.iter().take(24).map(|&b| char::from(b)).collect();
            return format!("a file of {size} bytes that starts with {text:?}");
        }
    };
    kind.into()
}

/// For a bare name: the reason not to let the loader search, which is a file of that name where it looks first that was cut
/// short. Files for other machines it passes over by itself.
#[cfg(target_os = "linux")]
pub(super) fn check_search(name: &Path) -> Checked {
    let listed = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let fixed = ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"].map(String::from);
    let multiarch = [format!("/lib/{triple}"), format!("/usr/lib/{triple}")];
    let folders = listed.split([':', ';']).filter(|_| !listed.is_empty()).map(String::from);
    for folder in folders.chain(fixed).chain(multiarch) {
        let path = Path::new(if folder.is_empty() { "." } else { &folder }).join(name);
        if path.exists()
            && let Err(reason) = check(&path)
            && (reason.contains("cut short") || reason.contains("pipe"))
        {
            return Err(format!("{}: {reason}", path.display()));
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn check_search(_: &Path) -> Checked {
    Ok(())
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// An ELF library of this machine: header, a segment of 16 bytes and a dynamic one of 8, sections.
    fn library() -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        let push = |file: &mut Vec<u8>, n: u64, size: usize| file.extend(&n.to_le_bytes()[..size]);
        for (n, size) in
            [(3, 2), (62, 2), (1, 4), (0, 8), (64, 8), (200, 8), (0, 4), (64, 2), (56, 2), (2, 2)]
        {
            push(&mut file, n, size);
        }
        for (n, size) in [(64, 2), (1, 2), (0, 2)] {
            push(&mut file, n, size);
        }
        for (kind, offset, bytes) in [(1, 176, 16), (2, 184, 8)] {
            for (n, size) in [(kind, 4), (5, 4), (offset, 8), (0, 8), (0, 8), (bytes, 8), (bytes, 8), (8, 8)]
            {
                push(&mut file, n, size);
            }
        }
        file.resize(264, 0);
        file
    }

    fn elf(bytes: &[u8]) -> Checked {
        Bytes { source: Cursor::new(bytes), size: bytes.len() as u64 }.elf()
    }

    #[test]
    fn only_complete_libraries_of_this_machine() {
        let good = library();
        elf(&good).unwrap();
        for length in 0..good.len() {
            let reason = elf(&good[..length]).unwrap_err();
            assert!(length < 64 || reason.contains("cut short"), "{length}: {reason}");
        }
        let changed = |at: usize, bytes: &[u8]| {
            let mut file = good.clone();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            elf(&file).unwrap_err()
        };
        assert!(changed(4, &[1]).ends_with("found one of 32 bits"));
        assert!(changed(5, &[2]).ends_with("found one of the other byte order"));
        assert!(changed(18, &[183]).ends_with("found one for machine 183 (62 is this one)"));
        assert!(changed(16, &[2]).ends_with("an ELF file of another type (2)"));
        assert!(changed(0, b"MZ").ends_with("found a Windows (PE) file"));
        assert!(changed(56, &[0, 0]).contains("1 to 4096 program headers"));
        assert!(changed(56, &[0xff, 0xff]).contains("found 65535"));
        assert!(changed(72, &[0xff; 8]).contains("more than 2^64"));
        assert!(changed(40, &[0xff; 8]).contains("section headers"));
        assert!(changed(120, &[9]).ends_with("without a dynamic segment"));
        assert!(changed(64, &[9]).ends_with("without segments"));
    }

    #[test]
    fn no_bytes_panic() {
        let good = library();
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut file = good.clone();
                file[at] = value;
                let _ = elf(&file);
                let _ = Bytes { source: Cursor::new(&file), size: file.len() as u64 }.mach_o();
                let _ = Bytes { source: Cursor::new(&file), size: file.len() as u64 }.pe();
            }
        }
        for magic in [&b"MZ"[..], &[0xcf, 0xfa, 0xed, 0xfe], &[0xca, 0xfe, 0xba, 0xbe]] {
            for value in [0u8, 1, 40, 0xff] {
                for length in [0, 8, 31, 64, 200] {
                    let mut file = magic.to_vec();
                    file.resize(length.max(magic.len()), value);
                    let _ = Bytes { source: Cursor::new(&file), size: file.len() as u64 }.mach_o();
                    let _ = Bytes { source: Cursor::new(&file), size: file.len() as u64 }.pe();
                }
            }
        }
    }

    /// Of the other formats: what this machine's arch is in theirs.
    #[test]
    fn headers_of_other_systems() {
        let mut dll = vec![0; 64 + 24 + 40];
        dll[..2].copy_from_slice(b"MZ");
        dll[60] = 64;
        dll[64..68].copy_from_slice(b"PE\0\0");
        dll[68..70].copy_from_slice(&0x8664_u16.to_le_bytes());
        dll[70] = 1;
        dll[86..88].copy_from_slice(&0x2000_u16.to_le_bytes());
        dll[64 + 24 + 20] = 128;
        let pe = |file: &[u8]| Bytes { source: Cursor::new(file), size: file.len() as u64 }.pe();
        pe(&dll).unwrap();
        dll[64 + 24 + 16] = 1;
        assert!(pe(&dll).unwrap_err().contains("129 bytes, to the end of its sections, found 128"));

        let mut dylib = vec![0; 32 + 72];
        for (at, n) in [
            (0, 0xfeed_facf_u32),
            (4, 0x0100_0007),
            (12, 6),
            (16, 1),
            (20, 72),
            (32, 0x19),
            (36, 72),
            (80, 104),
        ] {
            dylib[at..at + 4].copy_from_slice(&n.to_le_bytes());
        }
        let mach_o = |file: &[u8]| Bytes { source: Cursor::new(file), size: file.len() as u64 }.mach_o();
        mach_o(&dylib).unwrap();
        dylib[72] = 1;
        assert!(mach_o(&dylib).unwrap_err().contains("105 bytes, to the end of its segments, found 104"));
    }
}
