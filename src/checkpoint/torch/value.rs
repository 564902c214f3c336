//! What a pickle can hold, as far as tensors need it.

use crate::tensor::Dtype;

/// Index of a value in [`Pickle::values`].
pub(super) type Id = u32;

#[derive(Debug)]
pub(super) enum PickleValue<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// Bytes, an integer of more than 64 bits (little-endian), or a float.
    Bytes(&'a [u8]),
    Text(&'a str),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    /// In the order of insertion; a key may come twice.
    Dict(Vec<(Id, Id)>),
    Global {
        module: &'a str,
        name: &'a str,
    },
    Storage(Box<PickledStorage<'a>>),
    Tensor(Box<PickledTensor<'a>>),
    /// What a global that is not on the list would have made; named after it.
    Opaque {
        module: &'a str,
        name: &'a str,
    },
}

/// Element type of a storage or tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element<'a> {
    Known(Dtype),
    /// A storage of plain bytes; its tensors bring their own type.
    Untyped,
    /// A type this library has no dtype for, by its PyTorch name.
    Other(&'a str),
}

impl Element<'_> {
    /// Bytes of one element; the types without a dtype are known only as far as they must be skipped.
    pub fn size(self) -> Option<usize> {
        match self {
            Element::Known(dtype) => Some(dtype.size()),
            Element::Untyped => Some(1),
            Element::Other("QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage") => {
                Some(1)
            }
            Element::Other("QInt32Storage") => Some(4),
            Element::Other("ComplexFloatStorage") => Some(8),
            Element::Other("ComplexDoubleStorage") => Some(16),
            Element::Other(_) => None,
        }
    }
}

/// The claim that a storage exists elsewhere in the file; nothing is checked yet.
#[derive(Clone, Debug)]
pub(super) struct PickledStorage<'a> {
    pub element: Element<'a>,
    pub key: &'a str,
    /// Elements (bytes when untyped).
    pub count: u64,
    /// Legacy files: a window (first element, elements) of the storage.
    pub window: Option<(u64, u64)>,
}

/// A tensor as described, not yet checked against its storage. Offset and strides are in elements.
#[derive(Clone, Debug)]
pub(super) struct PickledTensor<'a> {
    pub storage: PickledStorage<'a>,
    pub element: Element<'a>,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

impl PickleValue<'_> {
    /// What it is, for messages.
    pub fn describe(&self) -> String {
        match self {
            PickleValue::None => "None".into(),
            PickleValue::Bool(_) => "a bool".into(),
            PickleValue::Int(x) => format!("the integer {x}"),
            PickleValue::Bytes(_) => "bytes or a number".into(),
            PickleValue::Text(text) => format!("the string '{}'", text.chars().take(40).collect::<String>()),
            PickleValue::List(_) => "a list".into(),
            PickleValue::Tuple(_) => "a tuple".into(),
            PickleValue::Dict(_) => "a dict".into(),
            PickleValue::Global { module, name } => format!("the name '{module}.{name}'"),
            PickleValue::Storage(_) => "a storage".into(),
            PickleValue::Tensor(_) => "a tensor".into(),
            PickleValue::Opaque { module, name } => {
                format!("an object of '{module}.{name}' (code in a pickle is never run)")
            }
        }
    }
}
