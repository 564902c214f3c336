//! The few protobuf messages that ONNX needs, written by hand; field numbers are those of onnx.proto3.

use crate::tensor::{Dtype, Shape};

/// TensorProto.DataType.
pub fn data_type(dtype: Dtype) -> u64 {
    match dtype {
        Dtype::F32 => 1,
        Dtype::U8 => 2,
        Dtype::I8 => 3,
        Dtype::I16 => 5,
        Dtype::I32 => 6,
        Dtype::I64 => 7,
        Dtype::Bool => 9,
        Dtype::F16 => 10,
        Dtype::F64 => 11,
        Dtype::BF16 => 16,
    }
}

pub fn tensor_header(name: &str, dtype: Dtype, shape: &Shape) -> Message {
    let mut t = Message::default();
    for &d in shape.iter() {
        t.int(1, d as u64);
    }
    t.int(2, data_type(dtype)).string(8, name);
    t
}

/// A TensorProto with data_location EXTERNAL.
pub fn external_tensor(name: &str, dtype: Dtype, shape: &Shape, location: &str, offset: usize) -> Message {
    let mut t = tensor_header(name, dtype, shape);
    let (offset, length) = (offset.to_string(), (shape.len() * dtype.size()).to_string());
    for (key, value) in [("location", location), ("offset", &offset), ("length", &length)] {
        let mut entry = Message::default();
        entry.string(1, key).string(2, value);
        t.message(13, &entry);
    }
    t.int(14, 1);
    t
}

pub fn value_info(name: &str, dtype: Dtype, shape: &Shape) -> Message {
    let mut dims = Message::default();
    for &d in shape.iter() {
        let mut dim = Message::default();
        dim.int(1, d as u64);
        dims.message(1, &dim);
    }
    let mut tensor = Message::default();
    tensor.int(1, data_type(dtype)).message(2, &dims);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut info = Message::default();
    info.string(1, name).message(2, &kind);
    info
}

/// A protobuf message being written: varint, 32-bit and length-delimited fields.
#[derive(Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.0.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.0.push(v as u8);
    }

    fn tag(&mut self, field: u32, wire: u32) {
        self.varint(u64::from(field << 3 | wire));
    }

    pub fn int(&mut self, field: u32, v: u64) -> &mut Message {
        self.tag(field, 0);
        self.varint(v);
        self
    }

    pub fn float(&mut self, field: u32, v: f32) -> &mut Message {
        self.tag(field, 5);
        self.0.extend(v.to_le_bytes());
        self
    }

    pub fn bytes(&mut self, field: u32, v: &[u8]) -> &mut Message {
        self.tag(field, 2);
        self.varint(v.len() as u64);
        self.0.extend_from_slice(v);
        self
    }

    pub fn string(&mut self, field: u32, v: &str) -> &mut Message {
        self.bytes(field, v.as_bytes())
    }

    pub fn message(&mut self, field: u32, m: &Message) -> &mut Message {
        self.bytes(field, &m.0)
    }
}
