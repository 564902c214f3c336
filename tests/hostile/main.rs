//! Hostile checkpoints: whatever the bytes, opening gives tensors inside the file or an error that names what
//! is wrong. Never a panic, never code run, never memory out of proportion to the file.

mod broken_files;
mod corpora;
mod files;
mod limits;
/// Windows lets nobody truncate a mapped file, nor write a guarded one: unit tests of the library.
#[cfg(unix)]
mod truncated_reward;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use softdimo::checkpoint::{Checkpoint, Mapping};
use softdimo::{Error, Result};

/// Counts this thread's live bytes, so that tests can run side by side.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is going down has no counters any more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        PEAK.with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: forwards to the system allocator and adds arithmetic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn bytes(path: &str) -> Vec<u8> {
    std::fs::read(support::data(path)).unwrap()
}

/// Opens `bytes` and reads every tensor; asserts that memory stayed in proportion.
fn open(bytes: &[u8]) -> Result<usize> {
    let mapping = Arc::new(Mapping::from_vec(bytes.to_vec()));
    let before = LIVE.get();
    PEAK.set(before);
    let result = Checkpoint::from_mapping(mapping, "hostile").map(|checkpoint| {
        let names: Vec<String> = checkpoint.names().map(str::to_string).collect();
        for name in &names {
            let view = checkpoint.get(name).expect("a listed tensor is there");
            assert_eq!(view.data.len(), view.shape.len() * view.dtype.size(), "{name}");
            std::hint::black_box(view.data.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
        }
        names.len()
    });
    let used = (PEAK.get() - before) as usize;
    let limit = (17 << 20) + 64 * bytes.len();
    assert!(used <= limit, "{used} bytes allocated for a file of {} bytes", bytes.len());
    if let Err(e) = &result {
        assert!(matches!(e, Error::Format { .. } | Error::Unsupported { .. }), "{e:?}");
    }
    result
}

#[track_caller]
fn fails(bytes: &[u8], message: &str) {
    match open(bytes) {
        Ok(tensors) => panic!("opened with {tensors} tensors; expected an error with {message:?}"),
        Err(e) => assert!(e.to_string().contains(message), "{e}\nexpected {message:?}"),
    }
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + data, 7);
    file
}

fn small_safetensors() -> Vec<u8> {
    safetensors(
        r#"{"__metadata__":{"format":"pt","k":"v\u00e9"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"I8","shape":[],"data_offsets":[24,25]},"c":{"dtype":"F16","shape":[0,9],"data_offsets":[25,25]}} "#,
        25,
    )
}

/// One entry of a hand-made zip, with room for lies.
struct Entry {
    name: &'static str,
    content: Vec<u8>,
    method: u16,
    /// Added to the size and to the offset that the central directory claims.
    size_lie: u32,
    offset_lie: u32,
}

fn entry(name: &'static str, content: &[u8]) -> Entry {
    Entry { name, content: content.to_vec(), method: 0, size_lie: 0, offset_lie: 0 }
}

fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = file.len() as u32 + entry.offset_lie;
        let size = entry.content.len() as u32 + entry.size_lie;
        let mut common = vec![20, 0, 0, 0];
        common.extend(entry.method.to_le_bytes());
        common.extend([0; 8]);
        common.extend(size.to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend((entry.name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(entry.name.as_bytes());
        file.extend(&entry.content);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([entries.len() as u16; 2].map(u16::to_le_bytes).concat());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn int(x: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &x.to_le_bytes()].concat()
}

fn tuple(items: &[i64]) -> Vec<u8> {
    let mut out = b"(".to_vec();
    items.iter().for_each(|&x| out.extend(int(x)));
    out.push(b't');
    out
}

/// The opcodes of a tensor in storage '0' of `count` f32.
fn tensor(count: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let mut out = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    out.extend(text("storage"));
    out.extend(b"ctorch\nFloatStorage\n");
    out.extend([text("0"), text("cpu"), int(count)].concat());
    out.extend(b"tQ");
    out.extend([int(offset), tuple(size), tuple(stride)].concat());
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    out
}

/// A pickle of a dict.
fn pickle(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for (key, value) in items {
        out.extend(text(key));
        out.extend(value);
    }
    out.extend(b"u.");
    out
}

/// A zip with that pickle and a storage '0' of six f32.
fn torch(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    zip(&[entry("x/data.pkl", &pickle(items)), entry("x/data/0", &[1; 24])])
}

#[test]
fn the_builders_build_valid_files() {
    assert_eq!(open(&small_safetensors()).unwrap(), 3);
    assert_eq!(
        open(&torch(&[("a", tensor(6, 0, &[2, 3], &[3, 1])), ("b", tensor(6, 1, &[2], &[2]))])).unwrap(),
        2
    );
}

#[test]
fn every_truncation() {
    let whole = [small_safetensors(), bytes("torch/linear.pth"), bytes("torch/small.proto2.legacy.pth")];
    for file in whole {
        for len in 0..file.len() {
            assert!(open(&file[..len]).is_err(), "cut at {len} of {}", file.len());
        }
        open(&file).unwrap();
    }
}

#[test]
fn every_bit_flip() {
    let st = small_safetensors();
    let header = st.len() - 25;
    let legacy = bytes("torch/small.proto4.legacy.pth");
    let zip = torch(&[("a", tensor(6, 0, &[2, 3], &[1, 2]))]);
    for (mut file, len) in [(st, header), (zip.clone(), zip.len()), (legacy, 1200)] {
        for bit in 0..len * 8 {
            file[bit / 8] ^= 1 << (bit % 8);
            let _ = open(&file);
            file[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn safetensors_headers() {
    let one = |info: &str, data| safetensors(&format!(r#"{{"w":{info}}}"#), data);
    fails(&one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,400]}"#, 4), "offsets up to 4 (the file may");
    fails(&one(r#"{"dtype":"F32","shape":[1],"data_offsets":[1,5]}"#, 5), "(a hole)");
    fails(&one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#, 5), "file size: expected 4 bytes");
    fails(
        &one(r#"{"dtype":"F33","shape":[1],"data_offsets":[0,4]}"#, 4),
        "tensor 'w' dtype: expected one of",
    );
    fails(&one(r#"{"dtype":"U16","shape":[1],"data_offsets":[0,2]}"#, 2), "found 'U16'");
    fails(
        &one(r#"{"dtype":"F64","shape":[2305843009213693952,8],"data_offsets":[0,0]}"#, 0),
        "tensor 'w' shape: expected a size that fits 64 bits",
    );
    fails(
        &one(r#"{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}"#, 0),
        "tensor 'w' data_offsets",
    );
    fails(
        &one(r#"{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]}"#, 1),
        "header entry 'w'",
    );
    fails(&one(r#"{"dtype":"U8","shape":[1],"data_offsets":[0]}"#, 1), "expected two data_offsets");
    fails(&one(r#"{"dtype":"U8","shape":[1]}"#, 1), "missing field `data_offsets`");
    fails(&one(r#"{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}"#, 1), "field 'dtype' twice");
    fails(&one(r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}"#, 1), "unknown field `x`");
    fails(&one("null", 0), "expected an object with dtype, shape and data_offsets");
    fails(
        &safetensors(
            r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
            3,
        ),
        "(an overlap)",
    );
    fails(
        &safetensors(
            r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
            2,
        ),
        "'a' twice",
    );
    fails(&safetensors(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "a second __metadata__");
    fails(&safetensors(r#"{"__metadata__":{"k":["v"]}}"#, 0), "header entry '__metadata__'");
    fails(&safetensors("{\"a\u{0}", 0), "header: expected safetensors header JSON");
    fails(b"\x04\0\0\0\0\0\0\0{\"\xff\"}", "header: expected UTF-8");
    // Nested as deep as the header is long: JSON's own recursion limit.
    fails(&safetensors(&format!("{{\"w\":{}", "{\"x\":".repeat(100_000)), 0), "header entry 'w'");
    fails(&safetensors(&format!("{{\"w\":{{\"shape\":{}", "[".repeat(100_000)), 0), "header entry 'w'");

    let mut giant = small_safetensors();
    giant[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fails(&giant, "header length: expected at most");
    giant[..8].copy_from_slice(&100_000_001u64.to_le_bytes());
    fails(&giant, "found 100000001");
}

#[test]
fn tensors_outside_their_storage() {
    let fail = |tensor: Vec<u8>, message: &str| fails(&torch(&[("t", tensor)]), message);
    fail(tensor(6, 0, &[7], &[1]), "tensor 't': expected elements inside its storage of 24 bytes");
    fail(tensor(6, 4, &[3], &[1]), "found elements up to byte 28");
    fail(tensor(6, 0, &[2, 2], &[5, 2]), "found elements up to byte 32");
    fail(tensor(7, 0, &[1], &[1]), "storage '0': expected 7 elements of 4 bytes, found 24 bytes");
    fail(tensor(i64::MAX, 0, &[1], &[1]), "storage '0': expected 9223372036854775807 elements");
    fail(tensor(6, i64::MAX, &[1], &[1]), "sizes and strides that fit 64 bits");
    fail(tensor(6, 0, &[2], &[i64::MAX]), "sizes and strides that fit 64 bits");
    fail(tensor(6, 0, &[i64::MAX, i64::MAX], &[0, 0]), "sizes and strides that fit 64 bits");
    fail(tensor(6, -1, &[1], &[1]), "unsigned integers, found the integer -1");
    fail(tensor(6, 0, &[2], &[-1]), "unsigned integers, found the integer -1");
    fail(tensor(6, 0, &[1; 9], &[1; 9]), "at most 8 dimensions, found 9 dimensions");
    fail(tensor(6, 0, &[2], &[1, 1]), "a stride for every dimension");
    // Every element the same one: cheap in the file, not in memory.
    fail(tensor(6, 0, &[1 << 40], &[0]), "bytes of tensors that need a copy");
    let items: Vec<(&str, Vec<u8>)> =
        ["a", "b", "c"].map(|name| (name, tensor(6, 0, &[2_000_000], &[0]))).into();
    fails(&torch(&items), "tensor 'c': expected at most");
    // No element at all: nothing to be outside of.
    assert_eq!(open(&torch(&[("t", tensor(6, i64::MAX, &[0, 3], &[i64::MAX, 1]))])).unwrap(), 1);
}

#[test]
fn code_in_a_pickle_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("ran");
    let command = text(&format!("touch {}", mark.display()));
    let calls = [
        [b"cos\nsystem\n".as_slice(), &command, b"\x85R"].concat(),
        [b"cposix\nsystem\n".as_slice(), &command, b"\x85R"].concat(),
        [b"cbuiltins\nexec\n".as_slice(), &command, b"\x85R"].concat(),
        [b"csubprocess\nPopen\n".as_slice(), &command, b"\x85\x81"].concat(),
        [text("os"), text("system"), b"\x93".to_vec(), command.clone(), b"\x85R".to_vec()].concat(),
    ];
    for call in calls {
        // Beside tensors it is skipped, where a tensor belongs it is reported.
        let items = [("evil", call.clone()), ("t", tensor(6, 0, &[6], &[1]))];
        assert_eq!(open(&torch(&items)).unwrap(), 1);
        fails(
            &torch(&[("evil", call.clone())]),
            "state dict: expected a dict of tensors, found a dict without",
        );
        let root = [b"\x80\x02".as_slice(), &call, b"."].concat();
        fails(&zip(&[entry("x/data.pkl", &root)]), "(code in a pickle is never run)");
    }
    assert!(!mark.exists());
}

#[test]
fn pickles_that_lie() {
    let fail = |pickle: &[u8], message: &str| fails(&zip(&[entry("x/data.pkl", pickle)]), message);
    fail(b"", "data.pkl: expected 1 more bytes at byte 0");
    fail(b"\x80\x02\xff.", "found opcode 0xff at byte 2");
    fail(b"\x80\x02(.", "data.pkl: expected a value on the stack");
    fail(b"\x80\x02j\xff\xff\xff\xff.", "a memo entry that was stored, found entry 4294967295");
    fail(b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.", "(the file was cut short)");
    fail(b"\x80\x02\x8b\xff\xff\xff\xff.", "4294967295 more bytes");
    // A dict inside itself, and a tree that doubles at every level.
    fail(b"\x80\x02}q\0X\x01\0\0\0ah\0s.", "dicts nested at most 16 deep");
    let mut tree = b"\x80\x02}".to_vec();
    for _ in 0..15 {
        tree.extend(b"q\0}(X\x01\0\0\0ah\0X\x01\0\0\0bh\0X\x01\0\0\0ch\0X\x01\0\0\0dh\0u");
    }
    tree.push(b'.');
    fail(&tree, "state dict: expected at most 4194304 entries");
    // One long list as the argument of many calls.
    let mut pairs = b"\x80\x02]q\0(".to_vec();
    (0..2000).for_each(|_| pairs.extend(b"))\x86"));
    pairs.extend(b"e0");
    fail(&[pairs.as_slice(), b"."].concat(), "a value on the stack");
    let mut calls = b"\x80\x02ccollections\nOrderedDict\nq\x01]q\0(".to_vec();
    (0..2000).for_each(|_| calls.extend(b"NN\x86"));
    calls.extend(b"e\x85q\x02");
    (0..4000).for_each(|_| calls.extend(b"h\x01h\x02R0"));
    fail(&calls, "dict items, found");
    // The same tensor under one name by two ways.
    let t = || tensor(6, 0, &[6], &[1]);
    let nested = [b"}".to_vec(), text("b"), t(), b"s".to_vec()].concat();
    fails(&torch(&[("a.b", t()), ("a", nested)]), "every name once, found 'a.b' twice");
    fails(&torch(&[(&"n".repeat(1025), t())]), "tensor name: expected at most 1024 bytes");
}

#[test]
fn zips_that_lie() {
    let items = || pickle(&[("t", tensor(6, 0, &[6], &[1]))]);
    let storage = || entry("x/data/0", &[1; 24]);
    // Names are never paths: these two are as good as any other prefix.
    for name in ["../../../etc/data.pkl", "/etc/data.pkl"] {
        let storage = if name.starts_with('/') { "/etc/data/0" } else { "../../../etc/data/0" };
        assert_eq!(open(&zip(&[entry(name, &items()), entry(storage, &[1; 24])])).unwrap(), 1);
    }
    fails(
        &zip(&[entry("x/data.pkl", &items())]),
        "tensor 't' storage '0': expected its bytes in the file, found none",
    );
    fails(&zip(&[storage()]), "one 'data.pkl', as PyTorch 1.6 and later write it, found 0 of 1 entries");
    fails(&zip(&[entry("x/data.pkl", &items()), entry("y/data.pkl", &items())]), "found 2 of 2 entries");
    fails(&zip(&[entry("x/data.pkl", &items()), storage(), storage()]), "'x/data/0' twice");
    fails(
        &zip(&[entry("x/data.pkl", &items()), Entry { size_lie: 1 << 20, ..storage() }]),
        "entries inside the file",
    );
    fails(
        &zip(&[entry("x/data.pkl", &items()), Entry { offset_lie: 1 << 20, ..storage() }]),
        "entries inside the file",
    );
    fails(
        &zip(&[entry("x/data.pkl", &items()), Entry { offset_lie: 3, ..storage() }]),
        "entries inside the file",
    );
    fails(
        &zip(&[entry("x/data.pkl", &items()), Entry { method: 8, ..storage() }]),
        "compressed zip entry 'data/0' is not supported",
    );
    fails(&zip(&[entry("x/data.pkl", &items()), storage(), entry("x/byteorder", b"big")]), "big-endian");
    fails(b"PK\x03\x04 and nothing more", "zip archive: expected a readable directory at the end");
}

#[test]
fn legacy_files_that_lie() {
    let file = bytes("torch/small.proto2.legacy.pth");
    let mut magic = file.clone();
    magic[6] ^= 1;
    fails(&magic, "magic number: expected that of a PyTorch file");
    let at = file.windows(13).position(|window| window == b"little_endian").unwrap();
    let mut big = file.clone();
    assert_eq!(std::mem::replace(&mut big[at + 15], 0x89), 0x88);
    fails(&big, "a big-endian checkpoint is not supported");
    fails(&file[..file.len() - 1], "(the file was cut short)");
    fails(b"\x80\x02K\x01.", "magic number: expected that of a PyTorch file, found the integer 1");
}

/// 20,000 files, each a few steps away from a valid one, from a fixed seed.
#[test]
fn mutations() {
    let seeds = [
        small_safetensors(),
        bytes("torch/small.safetensors"),
        bytes("torch/linear.pth"),
        torch(&[("model", tensor(6, 0, &[2, 3], &[1, 2])), ("b", tensor(6, 2, &[2], &[2]))]),
        bytes("torch/small.proto4.legacy.pth"),
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut opened = 0;
    for round in 0..20_000 {
        let mut file = seeds[round % seeds.len()].clone();
        for _ in 0..1 + random.below(4) {
            mutate(&mut file, &mut random);
        }
        let ours = open(&file);
        opened += usize::from(ours.is_ok());
        // What is accepted as safetensors, the reference parser accepts, with the same tensors.
        if let Ok(count) = ours
            && file.get(8) == Some(&b'{')
        {
            assert_eq!(::safetensors::SafeTensors::deserialize(&file).unwrap().len(), count);
        }
    }
    assert!(
        opened > 1000,
        "only {opened} mutations opened: the parsers behind the first check were not reached"
    );
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn mutate(file: &mut Vec<u8>, random: &mut Random) {
    if file.is_empty() {
        return;
    }
    // Half of all mutations hit the first kilobyte, where the structure is.
    let reach = if random.below(2) == 0 { file.len().min(1024) } else { file.len() };
    let at = random.below(reach);
    match random.below(7) {
        0 => file[at] ^= 1 << random.below(8),
        1 => file[at] = random.next() as u8,
        2 => file[at] = [0, 1, 0x7f, 0x80, 0xff, b'.', b'(', b'"'][random.below(8)],
        3 => {
            let extreme = [0, 1, 1 << 31, u64::from(u32::MAX), 1 << 40, i64::MAX as u64, u64::MAX];
            let number = extreme[random.below(extreme.len())].to_le_bytes();
            let end = file.len().min(at + [2, 4, 8][random.below(3)]);
            let len = end - at;
            file[at..end].copy_from_slice(&number[..len]);
        }
        4 => {
            let from = random.below(file.len());
            let chunk = file[from..file.len().min(from + random.below(64))].to_vec();
            file.splice(at..at, chunk);
        }
        5 => drop(file.drain(at..file.len().min(at + 1 + random.below(16)))),
        _ => file.truncate(file.len() - random.below(64).min(file.len())),
    }
}
