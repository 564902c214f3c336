//! Open a checkpoint (a file, a directory or a sharded index) as one namespace of tensor views.
