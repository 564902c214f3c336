//! A pickle reader that builds data and never runs anything.
//!
//! It understands the opcodes of protocols 2 to 5 and the few globals that stand for tensors and their
//! containers. Every other global, and whatever is built from one, becomes an opaque value that carries its
//! name and nothing else: no import, no call, no attribute is possible here.
//!
//! Values live in one arena and refer to each other by index, so that sharing (memo, DUP) copies nothing and
//! no input makes more than one value for each opcode. There is no recursion.

use std::collections::HashMap;

use super::value::{Id, PickleValue};
use crate::error::{Error, Result};

/// Most opcodes one pickle may have. A checkpoint of 10,000 tensors has about 500,000.
pub(super) const MAX_OPCODES: usize = 1 << 22;

pub(super) struct Pickle<'a> {
    values: Vec<PickleValue<'a>>,
    /// What the pickle is a pickle of.
    pub root: Id,
    /// Bytes used, up to and including STOP.
    pub len: usize,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle from the beginning of `source`. `file` and `what` are for messages.
    ///
    /// # Errors
    /// `Format`.
    pub fn read(source: &'a [u8], file: &str, what: &str) -> Result<Pickle<'a>> {
        let mut machine = Machine {
            source,
            at: 0,
            file,
            what,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            tensors: 0,
            pairs: 0,
        };
        let root = machine.run()?;
        Ok(Pickle { values: machine.values, root, len: machine.at })
    }

    pub fn value(&self, id: Id) -> &PickleValue<'a> {
        &self.values[id as usize]
    }

    pub fn values(&self) -> &[PickleValue<'a>] {
        &self.values
    }
}

pub(super) struct Machine<'a, 'm> {
    pub source: &'a [u8],
    at: usize,
    file: &'m str,
    what: &'m str,
    values: Vec<PickleValue<'a>>,
    pub stack: Vec<Id>,
    /// Stack heights at each open MARK. Nothing below the last one can be popped.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Tensors made so far.
    pub tensors: usize,
    /// Key-value pairs copied into dicts so far.
    pub pairs: usize,
}

impl<'a> Machine<'a, '_> {
    fn run(&mut self) -> Result<Id> {
        for _ in 0..MAX_OPCODES {
            let opcode_at = self.at;
            let opcode = self.byte()?;
            match opcode {
                // STOP
                b'.' => return self.pop(),
                // PROTO, FRAME: the frame's length is a hint for streams.
                0x80 => {
                    let protocol = self.byte()?;
                    if !(2..=5).contains(&protocol) {
                        return Err(self.broken("protocol 2 to 5", format!("protocol {protocol}")));
                    }
                }
                0x95 => {
                    self.take(8)?;
                }

                // MARK, POP, POP_MARK, DUP
                b'(' => self.marks.push(self.stack.len()),
                b'0' => match self.marks.last() {
                    Some(&mark) if mark == self.stack.len() => {
                        self.marks.pop();
                    }
                    _ => {
                        self.pop()?;
                    }
                },
                b'1' => {
                    self.pop_mark()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }

                // NONE, NEWTRUE, NEWFALSE, BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT
                b'N' => self.push(PickleValue::None),
                0x88 => self.push(PickleValue::Bool(true)),
                0x89 => self.push(PickleValue::Bool(false)),
                b'J' => {
                    let x = i32::from_le_bytes(self.array()?);
                    self.push(PickleValue::Int(x.into()));
                }
                b'K' => {
                    let x = self.byte()?;
                    self.push(PickleValue::Int(x.into()));
                }
                b'M' => {
                    let x = u16::from_le_bytes(self.array()?);
                    self.push(PickleValue::Int(x.into()));
                }
                0x8a => {
                    let len = self.byte()?.into();
                    self.long(len)?;
                }
                0x8b => {
                    let len = self.len4()?;
                    self.long(len)?;
                }
                b'G' => {
                    let bytes = self.take(8)?;
                    self.push(PickleValue::Bytes(bytes));
                }

                // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8; BINSTRING, SHORT_BINSTRING (Python 2's str)
                b'X' | b'T' => {
                    let len = self.len4()?;
                    self.text(len)?;
                }
                0x8c | b'U' => {
                    let len = self.byte()?.into();
                    self.text(len)?;
                }
                0x8d => {
                    let len = self.len8()?;
                    self.text(len)?;
                }
                // BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
                b'B' => {
                    let len = self.len4()?;
                    let bytes = self.take(len)?;
                    self.push(PickleValue::Bytes(bytes));
                }
                b'C' => {
                    let len = self.byte()?.into();
                    let bytes = self.take(len)?;
                    self.push(PickleValue::Bytes(bytes));
                }
                0x8e | 0x96 => {
                    let len = self.len8()?;
                    let bytes = self.take(len)?;
                    self.push(PickleValue::Bytes(bytes));
                }

                // EMPTY_LIST, APPEND, APPENDS, LIST
                b']' => self.push(PickleValue::List(Vec::new())),
                b'a' => {
                    let item = self.pop()?;
                    self.extend(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    self.extend(items)?;
                }
                b'l' => {
                    let items = self.pop_mark()?;
                    self.push(PickleValue::List(items));
                }
                // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
                b')' => self.push(PickleValue::Tuple(Vec::new())),
                0x85..=0x87 => {
                    let mut items = Vec::with_capacity(3);
                    for _ in 0x84..opcode {
                        items.push(self.pop()?);
                    }
                    items.reverse();
                    self.push(PickleValue::Tuple(items));
                }
                b't' => {
                    let items = self.pop_mark()?;
                    self.push(PickleValue::Tuple(items));
                }
                // EMPTY_DICT, SETITEM, SETITEMS, DICT
                b'}' => self.push(PickleValue::Dict(Vec::new())),
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set_items(vec![key, value])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set_items(items)?;
                }
                b'd' => {
                    let items = self.pop_mark()?;
                    self.push(PickleValue::Dict(Vec::new()));
                    self.set_items(items)?;
                }
                // EMPTY_SET, ADDITEMS, FROZENSET: sets cannot hold what we look for, their items are dropped.
                0x8f => self.push(PickleValue::Opaque { module: "builtins", name: "set" }),
                0x90 => {
                    self.pop_mark()?;
                    self.top()?;
                }
                0x91 => {
                    self.pop_mark()?;
                    self.push(PickleValue::Opaque { module: "builtins", name: "frozenset" });
                }

                // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
                b'q' => {
                    let index = self.byte()?.into();
                    self.put(index)?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.put(index)?;
                }
                0x94 => self.put(self.memo.len() as u32)?,
                b'h' => {
                    let index = self.byte()?.into();
                    self.get(index)?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.get(index)?;
                }

                // GLOBAL, STACK_GLOBAL
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(PickleValue::Global { module, name });
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (&PickleValue::Text(module), &PickleValue::Text(name)) =
                        (self.value(module), self.value(name))
                    else {
                        return Err(self.broken("a global named by two strings", self.describe(name)));
                    };
                    self.push(PickleValue::Global { module, name });
                }
                // REDUCE, NEWOBJ, NEWOBJ_EX, BUILD
                b'R' => {
                    let (arguments, callable) = (self.pop()?, self.pop()?);
                    let made = self.reduce(callable, arguments)?;
                    self.stack.push(made);
                }
                0x81 => {
                    let (_, class) = (self.pop()?, self.pop()?);
                    self.instance(class)?;
                }
                0x92 => {
                    let (_, _, class) = (self.pop()?, self.pop()?, self.pop()?);
                    self.instance(class)?;
                }
                // State carries attributes (a state dict's `_metadata`), never items; but in a TorchScript
                // archive a module is all attributes: tensors and modules by name, like a nested state dict.
                b'b' => {
                    let (state, object) = (self.pop()?, self.top()?);
                    self.build(state, object);
                }
                // BINPERSID
                b'Q' => {
                    let id = self.pop()?;
                    self.persistent(id)?;
                }
                _ => {
                    let found = format!("opcode 0x{opcode:02x} at byte {opcode_at}");
                    return Err(
                        self.broken("opcodes of pickle protocols 2 to 5 as PyTorch writes them", found)
                    );
                }
            }
        }
        Err(self.broken(format!("at most {MAX_OPCODES} opcodes"), "more"))
    }

    pub fn broken(&self, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Format {
            file: self.file.into(),
            what: self.what.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let rest = &self.source[self.at..];
        let Some(bytes) = rest.get(..len) else {
            let expected = format!("{len} more bytes at byte {}", self.at);
            return Err(self.broken(expected, format!("{} (the file was cut short)", rest.len())));
        };
        self.at += len;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take returns the length asked for"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn len4(&mut self) -> Result<usize> {
        // Signed in Python 2's BINSTRING and in LONG4; as unsigned, a negative length is beyond any file.
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn len8(&mut self) -> Result<usize> {
        Ok(usize::try_from(u64::from_le_bytes(self.array()?)).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.source[self.at..];
        let Some(len) = rest.iter().position(|&b| b == b'\n') else {
            return Err(self.broken(format!("a line at byte {}", self.at), "the end of the file"));
        };
        let line = std::str::from_utf8(self.take(len)?).map_err(|e| self.broken("UTF-8", e.to_string()))?;
        self.at += 1;
        Ok(line)
    }

    fn text(&mut self, len: usize) -> Result<()> {
        let bytes = self.take(len)?;
        // Python 2 pickled bytes as strings too; what is not text cannot be a name.
        let value = std::str::from_utf8(bytes).map_or(PickleValue::Bytes(bytes), PickleValue::Text);
        self.push(value);
        Ok(())
    }

    fn long(&mut self, len: usize) -> Result<()> {
        let bytes = self.take(len)?;
        let value = if len > 8 {
            PickleValue::Bytes(bytes)
        } else {
            let negative = bytes.last().is_some_and(|&b| b >= 0x80);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..len].copy_from_slice(bytes);
            PickleValue::Int(i64::from_le_bytes(wide))
        };
        self.push(value);
        Ok(())
    }

    pub fn value(&self, id: Id) -> &PickleValue<'a> {
        &self.values[id as usize]
    }

    pub fn value_mut(&mut self, id: Id) -> &mut PickleValue<'a> {
        &mut self.values[id as usize]
    }

    pub fn describe(&self, id: Id) -> String {
        self.value(id).describe()
    }

    pub fn add(&mut self, value: PickleValue<'a>) -> Id {
        // At most one value for each opcode: MAX_OPCODES fits an Id.
        self.values.push(value);
        (self.values.len() - 1) as Id
    }

    pub fn push(&mut self, value: PickleValue<'a>) {
        let id = self.add(value);
        self.stack.push(id);
    }

    fn top(&self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&id) if self.stack.len() > floor => Ok(id),
            _ => Err(self.broken("a value on the stack", format!("none before byte {}", self.at))),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Err(self.broken("a MARK on the stack", format!("none before byte {}", self.at))),
        }
    }

    fn put(&mut self, index: u32) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<()> {
        let Some(&id) = self.memo.get(&index) else {
            return Err(self.broken("a memo entry that was stored", format!("entry {index}")));
        };
        self.stack.push(id);
        Ok(())
    }

    fn extend(&mut self, items: Vec<Id>) -> Result<()> {
        let list = self.top()?;
        match &mut self.values[list as usize] {
            PickleValue::List(list) => list.extend(items),
            PickleValue::Opaque { .. } => {}
            other => {
                let found = other.describe();
                return Err(self.broken("a list to append to", found));
            }
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Id>) -> Result<()> {
        if !items.len().is_multiple_of(2) {
            return Err(self.broken("a value for every key", format!("{} items", items.len())));
        }
        let dict = self.top()?;
        match &mut self.values[dict as usize] {
            PickleValue::Dict(dict) => dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            PickleValue::Opaque { .. } => {}
            other => {
                let found = other.describe();
                return Err(self.broken("a dict to set items of", found));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &[u8]) -> Result<Pickle<'_>> {
        Pickle::read(source, "x.pth", "data.pkl")
    }

    #[track_caller]
    fn rejects(source: &[u8], message: &str) {
        match read(source) {
            Ok(pickle) => panic!("read as {:?}", pickle.value(pickle.root)),
            Err(e) => assert_eq!(e.to_string(), format!("x.pth: data.pkl: expected {message}")),
        }
    }

    #[test]
    fn values() {
        let pickle =
            read(b"\x80\x02(K\x05J\xff\xff\xff\xff\x8a\x02\x00\x80\x8a\x00X\x02\0\0\0abN\x88t.rest").unwrap();
        assert_eq!(pickle.len, 27);
        let PickleValue::Tuple(items) = pickle.value(pickle.root) else { panic!() };
        let found: Vec<_> = items.iter().map(|&id| format!("{:?}", pickle.value(id))).collect();
        assert_eq!(
            found,
            ["Int(5)", "Int(-1)", "Int(-32768)", "Int(0)", "Text(\"ab\")", "None", "Bool(true)"]
        );
    }

    #[test]
    fn foreign_code_is_data() {
        let system = b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.";
        let pickle = read(system).unwrap();
        assert_eq!(
            pickle.value(pickle.root).describe(),
            "an object of 'os.system' (code in a pickle is never run)"
        );
        // Called again, built, filled: still nothing but a name.
        let more = read(b"\x80\x02cos\nsystem\n)R)R}b(K\x01K\x02u(K\x01e.").unwrap();
        assert!(matches!(more.value(more.root), PickleValue::Opaque { module: "os", name: "system" }));
    }

    /// As TorchScript writes modules: attributes as the state of an object of a class made for the module.
    #[test]
    fn scripted_modules_are_dicts() {
        let inner = b"c__torch__.inner\nLinear\n)\x81}(X\x01\0\0\0bK\x07ub";
        let outer =
            [b"\x80\x02c__torch__\nNet\n)\x81}(X\x01\0\0\0a".as_slice(), inner, b"X\x01\0\0\0tK\x01ub."];
        let whole = outer.concat();
        let pickle = read(&whole).unwrap();
        let items = |id: u32| -> Vec<(String, u32)> {
            let PickleValue::Dict(items) = pickle.value(id) else { panic!("{:?}", pickle.value(id)) };
            items.iter().map(|&(key, value)| (pickle.value(key).describe(), value)).collect()
        };
        let net = items(pickle.root);
        assert_eq!((net[0].0.as_str(), net[1].0.as_str()), ("the string 'a'", "the string 't'"));
        assert_eq!(pickle.value(items(net[0].1)[0].1).describe(), "the integer 7");
        // Without a dict for a state, and of any other class, an object stays a name.
        let names: [&[u8]; 3] = [
            b"\x80\x02c__torch__\nNet\n)\x81K\x01b.",
            b"\x80\x02c__torch__\nNet\n)\x812b.",
            b"\x80\x02c_torch_\nNet\n)\x81}(X\x01\0\0\0aK\x07ub.",
        ];
        for name in names {
            let pickle = read(name).unwrap();
            assert!(matches!(pickle.value(pickle.root), PickleValue::Opaque { .. }));
        }
    }

    #[test]
    fn broken_rules_are_named() {
        let opcodes = "opcodes of pickle protocols 2 to 5 as PyTorch writes them";
        rejects(b"\x80\x02i.", &format!("{opcodes}, found opcode 0x69 at byte 2"));
        rejects(b"\x80\x02\x82\x01.", &format!("{opcodes}, found opcode 0x82 at byte 2"));
        rejects(b"\x80\x06.", "protocol 2 to 5, found protocol 6");
        rejects(b"\x80\x02.", "a value on the stack, found none before byte 3");
        rejects(b"\x80\x02K\x01(0000.", "a value on the stack, found none before byte 8");
        rejects(b"\x80\x02K\x01(R.", "a value on the stack, found none before byte 6");
        rejects(b"\x80\x02t.", "a MARK on the stack, found none before byte 3");
        rejects(b"\x80\x02h\x07.", "a memo entry that was stored, found entry 7");
        rejects(b"\x80\x02q\x07.", "a value on the stack, found none before byte 4");
        rejects(b"\x80\x02}K\x01K\x02a.", "a list to append to, found the integer 1");
        rejects(b"\x80\x02}(K\x01u.", "a value for every key, found 1 items");
        rejects(b"\x80\x02]K\x01K\x02s.", "a dict to set items of, found a list");
        rejects(b"\x80\x02K\x01)R.", "a global to call, found the integer 1");
        rejects(b"\x80\x02K\x01Q.", "a tuple as persistent id, found the integer 1");
        rejects(
            b"\x80\x02X\xff\xff\xff\xffab",
            "4294967295 more bytes at byte 7, found 2 (the file was cut short)",
        );
        rejects(b"\x80\x02cos", "a line at byte 3, found the end of the file");
        rejects(b"\x80\x04K\x01K\x02\x93.", "a global named by two strings, found the integer 2");
        rejects(
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
            "_rebuild_tensor_v2 with storage, offset, size, stride, found other arguments",
        );
        rejects(
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))tR.",
            "_rebuild_tensor_v2 with a storage first, found the integer 1",
        );
    }

    #[test]
    fn nesting_needs_no_stack() {
        let mut deep = b"\x80\x02".to_vec();
        deep.resize(1_000_000, b']');
        deep.extend(std::iter::repeat_n(b'a', 999_997));
        deep.push(b'.');
        read(&deep).unwrap();
        // Every level twice the one before: 2^200 leaves, 200 values.
        let mut wide = b"\x80\x02N".to_vec();
        (0..200).for_each(|_| wide.extend(b"2\x86"));
        wide.push(b'.');
        assert_eq!(read(&wide).unwrap().values().len(), 201);
    }

    #[test]
    fn opcodes_are_limited() {
        let mut endless = b"\x80\x02".to_vec();
        endless.resize(MAX_OPCODES + 10, b'N');
        rejects(&endless, "at most 4194304 opcodes, found more");
    }
}
