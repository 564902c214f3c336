//! What an engine keeps prepared: a model's programs, and the loops of optimisations.

use std::rc::Rc;

use crate::program::Program;
use crate::runtime::Session;
use crate::runtime::aside::Key;
use crate::runtime::bound::Bound;
use crate::runtime::cost::Cost;

/// A session that is kept. One that is to be a loop is made one when it is used first: what was prepared aside is not yet.
#[derive(Debug)]
pub(super) enum Kept {
    Session(Session),
    Loop(Box<Bound>),
}

impl Kept {
    pub fn cost(&self) -> &Rc<Cost> {
        match self {
            Kept::Session(session) => &session.cost,
            Kept::Loop(bound) => bound.cost(),
        }
    }
}

/// The key of a program's session: its batch size says all.
pub(super) fn key(program: Program, batch: usize) -> Key {
    Key { name: program.name(), batch, shape: String::new() }
}
