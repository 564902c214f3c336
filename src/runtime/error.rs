//! Errors of ONNX Runtime as this library's; `stage` says what was being done.

use ort::session::builder::SessionBuilder;

use crate::error::Error;

pub(super) fn runtime_error(stage: &str) -> impl Fn(ort::Error) -> Error + '_ {
    move |e| Error::Runtime { stage: stage.into(), message: e.message().trim().to_string() }
}

pub(super) fn builder_error(stage: &str) -> impl Fn(ort::Error<SessionBuilder>) -> Error + '_ {
    move |e| Error::Runtime { stage: stage.into(), message: e.message().trim().to_string() }
}
