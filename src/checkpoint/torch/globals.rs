//! The few globals that stand for tensors and their containers; nothing else has a meaning here.

use super::pickle::Machine;
use super::value::{Element, Id, PickleValue, PickledStorage, PickledTensor};
use crate::checkpoint::safetensors::MAX_RANK;
use crate::error::{Error, Result};
use crate::tensor::Dtype;

/// Most tensors one pickle may make, those of an optimizer included.
const MAX_TENSORS: usize = 1 << 18;

/// Where TorchScript puts the classes of its modules.
const SCRIPTED: &str = "__torch__";

impl<'a> Machine<'a, '_> {
    /// NEWOBJ and NEWOBJ_EX: an object without the state that would make it useful.
    pub fn instance(&mut self, class: Id) -> Result<()> {
        let value = match *self.value(class) {
            PickleValue::Global { module: "collections", name: "OrderedDict" } => {
                PickleValue::Dict(Vec::new())
            }
            PickleValue::Global { module, name } | PickleValue::Opaque { module, name } => {
                PickleValue::Opaque { module, name }
            }
            _ => return Err(self.broken("a class to make an object of", self.describe(class))),
        };
        self.push(value);
        Ok(())
    }

    /// BUILD of a TorchScript module, whose state becomes the object; other objects stay what they are. The state
    /// is taken, not copied: it was written for this object alone.
    pub fn build(&mut self, state: Id, object: Id) {
        let scripted =
            matches!(self.value(object), PickleValue::Opaque { module, .. } if module.starts_with(SCRIPTED));
        if scripted && let PickleValue::Dict(items) = self.value_mut(state) {
            let items = std::mem::take(items);
            *self.value_mut(object) = PickleValue::Dict(items);
        }
    }

    /// REDUCE: the allow-list. Everything else is recorded as what it would have called.
    pub fn reduce(&mut self, callable: Id, arguments: Id) -> Result<Id> {
        let (module, name) = match *self.value(callable) {
            PickleValue::Global { module, name } => (module, name),
            PickleValue::Opaque { module, name } => return Ok(self.add(PickleValue::Opaque { module, name })),
            _ => return Err(self.broken("a global to call", self.describe(callable))),
        };
        let PickleValue::Tuple(list) = self.value(arguments) else {
            return Err(self.broken(format!("a tuple of arguments for {name}"), self.describe(arguments)));
        };
        // A tuple in the memo can be an argument any number of times; no function here looks past the seventh.
        let list: Vec<Id> = list.iter().take(8).copied().collect();
        match (module, name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
                self.tensors += 1;
                if self.tensors > MAX_TENSORS {
                    return Err(self.broken(format!("at most {MAX_TENSORS} tensors"), "more"));
                }
                let tensor = self.tensor(name, &list)?;
                Ok(self.add(PickleValue::Tensor(Box::new(tensor))))
            }
            // (data, requires_grad, hooks, …): a parameter is its data.
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                let data = list.first().copied();
                data.filter(|&id| {
                    matches!(self.value(id), PickleValue::Tensor(_) | PickleValue::Opaque { .. })
                })
                .ok_or_else(|| self.bad_arguments(name, "a tensor first", data))
            }
            // (function, type, arguments, state): a subclass, or a tensor with attributes. One level only, as
            // PyTorch writes it: the inner function is never this one again.
            ("torch._tensor", "_rebuild_from_type_v2") => match list[..] {
                [function, _, inner, _]
                    if !matches!(
                        self.value(function),
                        PickleValue::Global { module: "torch._tensor", .. }
                    ) =>
                {
                    self.reduce(function, inner)
                }
                _ => Err(self.bad_arguments(name, "function, type, arguments, state", list.first().copied())),
            },
            // OrderedDict() or, from Python 2, OrderedDict([[key, value], …]).
            ("collections", "OrderedDict") => {
                let mut items = Vec::new();
                if let Some(PickleValue::List(pairs)) = list.first().map(|&id| self.value(id)) {
                    // Every pair was written once; more than the pickle has bytes are one list many times.
                    if self.pairs + pairs.len() > self.source.len() {
                        let found = format!("{} or more", self.pairs + pairs.len());
                        return Err(self.broken(format!("at most {} dict items", self.source.len()), found));
                    }
                    for &pair in pairs {
                        match self.value(pair) {
                            PickleValue::List(pair) | PickleValue::Tuple(pair) if pair.len() == 2 => {
                                items.push((pair[0], pair[1]));
                            }
                            _ => return Err(self.bad_arguments(name, "key and value pairs", Some(pair))),
                        }
                    }
                }
                self.pairs += items.len();
                Ok(self.add(PickleValue::Dict(items)))
            }
            ("collections", "defaultdict") => Ok(self.add(PickleValue::Dict(Vec::new()))),
            ("torch", "Size") => match list[..] {
                [size] => Ok(size),
                _ => Err(self.bad_arguments(name, "one tuple", None)),
            },
            _ => Ok(self.add(PickleValue::Opaque { module, name })),
        }
    }

    fn bad_arguments(&self, function: &str, expected: &str, found: Option<Id>) -> Error {
        let found = found.map_or("other arguments".into(), |id| self.describe(id));
        self.broken(format!("{function} with {expected}"), found)
    }

    /// (storage, offset, size, stride, …); version 3 has the dtype as its seventh argument.
    fn tensor(&self, function: &str, list: &[Id]) -> Result<PickledTensor<'a>> {
        let [storage, offset, size, stride, ..] = *list else {
            return Err(self.bad_arguments(function, "storage, offset, size, stride", None));
        };
        let PickleValue::Storage(storage) = self.value(storage) else {
            return Err(self.bad_arguments(function, "a storage first", Some(storage)));
        };
        let element = if function == "_rebuild_tensor_v3" {
            match list.get(6).map(|&id| self.value(id)) {
                Some(&PickleValue::Global { module: "torch", name }) => element_of_dtype(name),
                _ => return Err(self.bad_arguments(function, "a dtype seventh", list.get(6).copied())),
            }
        } else {
            storage.element
        };
        let tensor = PickledTensor {
            storage: (**storage).clone(),
            element,
            offset: self.unsigned(function, offset)?,
            shape: self.unsigned_list(function, size)?,
            strides: self.unsigned_list(function, stride)?,
        };
        if tensor.shape.len() != tensor.strides.len() {
            return Err(self.bad_arguments(function, "a stride for every dimension", Some(stride)));
        }
        Ok(tensor)
    }

    fn unsigned(&self, function: &str, id: Id) -> Result<u64> {
        match self.value(id) {
            PickleValue::Int(x) if *x >= 0 => Ok(*x as u64),
            _ => Err(self.bad_arguments(function, "unsigned integers", Some(id))),
        }
    }

    fn unsigned_list(&self, function: &str, id: Id) -> Result<Vec<u64>> {
        match self.value(id) {
            PickleValue::Tuple(list) | PickleValue::List(list) if list.len() <= MAX_RANK => {
                list.iter().map(|&id| self.unsigned(function, id)).collect()
            }
            PickleValue::Tuple(list) | PickleValue::List(list) => {
                Err(self.broken("tensors of at most 8 dimensions", format!("{} dimensions", list.len())))
            }
            _ => Err(self.bad_arguments(function, "a size and a stride", Some(id))),
        }
    }

    /// ('storage', class, key, location, count[, window]) or, in legacy files, ('module', class, …).
    pub fn persistent(&mut self, id: Id) -> Result<()> {
        let PickleValue::Tuple(list) = self.value(id) else {
            return Err(self.broken("a tuple as persistent id", self.describe(id)));
        };
        let kind = list.first().map(|&id| self.value(id));
        match (kind, &list[..]) {
            (Some(PickleValue::Text("storage")), &[_, class, key, _location, count, ref rest @ ..]) => {
                let what = "a persistent id";
                let PickleValue::Global { module, name } = *self.value(class) else {
                    return Err(self.bad_arguments(what, "a storage class second", Some(class)));
                };
                let PickleValue::Text(key) = *self.value(key) else {
                    return Err(self.bad_arguments(what, "a key third", Some(key)));
                };
                let element = element_of_storage(module, name)
                    .ok_or_else(|| self.bad_arguments(what, "a storage class second", Some(class)))?;
                let count = self.unsigned(what, count)?;
                let window = match rest.first().map(|&id| self.value(id)) {
                    None | Some(PickleValue::None) => None,
                    Some(PickleValue::Tuple(window)) if window.len() == 3 => {
                        Some((self.unsigned(what, window[1])?, self.unsigned(what, window[2])?))
                    }
                    Some(_) => return Err(self.bad_arguments(what, "a view sixth", rest.first().copied())),
                };
                self.push(PickleValue::Storage(Box::new(PickledStorage { element, key, count, window })));
                Ok(())
            }
            (Some(PickleValue::Text("module")), &[_, class, ..]) => {
                self.stack.push(class);
                Ok(())
            }
            _ => {
                let found = list.first().map_or("an empty tuple".into(), |&id| self.describe(id));
                Err(self.broken("a persistent id of a storage", found))
            }
        }
    }
}

fn element_of_storage<'a>(module: &'a str, name: &'a str) -> Option<Element<'a>> {
    if !matches!(module, "torch" | "torch.cuda" | "torch.storage") {
        return None;
    }
    Some(match name {
        "BoolStorage" => Element::Known(Dtype::Bool),
        "ByteStorage" => Element::Known(Dtype::U8),
        "CharStorage" => Element::Known(Dtype::I8),
        "ShortStorage" => Element::Known(Dtype::I16),
        "IntStorage" => Element::Known(Dtype::I32),
        "LongStorage" => Element::Known(Dtype::I64),
        "HalfStorage" => Element::Known(Dtype::F16),
        "BFloat16Storage" => Element::Known(Dtype::BF16),
        "FloatStorage" => Element::Known(Dtype::F32),
        "DoubleStorage" => Element::Known(Dtype::F64),
        "UntypedStorage" | "_UntypedStorage" | "TypedStorage" | "_TypedStorage" => Element::Untyped,
        other if other.ends_with("Storage") => Element::Other(other),
        _ => return None,
    })
}

fn element_of_dtype(name: &str) -> Element<'_> {
    Element::Known(match name {
        "bool" => Dtype::Bool,
        "uint8" => Dtype::U8,
        "int8" => Dtype::I8,
        "int16" => Dtype::I16,
        "int32" => Dtype::I32,
        "int64" => Dtype::I64,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float32" => Dtype::F32,
        "float64" => Dtype::F64,
        other => return Element::Other(other),
    })
}
