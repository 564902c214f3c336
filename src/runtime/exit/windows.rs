//! The end of a process on Windows: nothing is installed, and nothing waits.
//!
//! `exit()` and a return from `main` end in `ExitProcess`, which ends all other threads before it tells libraries of the
//! end, under the lock of the loader and on the thread that called it: no thread is inside ONNX Runtime when its objects
//! are destroyed. A handler of a library would run only then, and wait for threads that are gone, on locks that they may
//! have held. What runs at the end finds this:
//!
//! - Destructors and handlers of the program itself run before `ExitProcess`, with all threads alive: they free engines as
//!   ever.
//! - Those of libraries, as of a plug-in that holds an engine in a static object, run after it: `check_process` fails
//!   there, so that frees do nothing, calls say so, and neither takes a lock.
//! - Thread-local objects of the last thread, and of no other: those of this library hold memory and nothing else.

/// There is nothing to install.
pub(crate) fn install() {}
