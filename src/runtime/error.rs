//! Errors of ONNX Runtime as this library's; `stage` says what was being done.

use ort::session::builder::SessionBuilder;

use crate::error::Error;

pub(super) fn runtime_error(stage: &str) -> impl Fn(ort::Error) -> Error + '_ {
    move |e| failed(stage, e.message())
}

pub(super) fn builder_error(stage: &str) -> impl Fn(ort::Error<SessionBuilder>) -> Error + '_ {
    move |e| failed(stage, e.message())
}

/// By ONNX Runtime's message, which is all that tells a failed allocation: that of its own code, and of its allocators.
pub(super) fn failed(stage: &str, message: &str) -> Error {
    let message = message.trim();
    // What `Threads::spawn` said does not get through the runtime.
    if message.contains("custom_create_thread_fn") {
        let message = "the system has none, or no memory for its stack".into();
        return Error::Runtime { stage: format!("{stage}: starting a thread"), message };
    }
    match ["std::bad_alloc", "Failed to allocate memory"].iter().any(|text| message.contains(text)) {
        true => Error::Exhausted { what: format!("ONNX Runtime in {stage}"), bytes: 0 },
        false => Error::Runtime { stage: stage.into(), message: message.to_string() },
    }
}
