//! Prompts: tokenizers, their files, and text encoders.

mod clip_files;
mod clip_text;
mod tokenizer;
