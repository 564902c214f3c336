# make sample    build the library, fetch ONNX Runtime, write sample.png
# make test      run every test
# make docs      the Rust, C and C++ documentation (docs/docs.mk)
# make install   PREFIX=/usr/local DESTDIR=

CARGO ?= cargo
CC ?= cc
TARGET := $(or $(CARGO_TARGET_DIR),target)
# While the major version is 0, the minor one is the ABI (build.rs sets the same SONAME).
ABI := $(shell sed -n 's/^version = "\([0-9]*\.[0-9]*\)\..*/\1/p' Cargo.toml | head -n 1)
MODEL := models/emoji-32.softdimo.safetensors
CFLAGS ?= -O2
WARNINGS := -Wall -Wextra -pedantic -Werror

.PHONY: sample test lint runtime build clean

sample: build $(TARGET)/release/cli_sample
	$(TARGET)/release/cli_sample $(MODEL) sample.png

build: runtime
	$(CARGO) build --release
	ln -sf libsoftdimo.so $(TARGET)/release/libsoftdimo.so.$(ABI)

# Beside the programs that look there, and where .cargo/config.toml points for everything cargo runs.
runtime:
	scripts/fetch-onnxruntime target/onnxruntime $(TARGET)/release $(TARGET)/debug

$(TARGET)/release/cli_sample: examples/cli_sample/cli_sample.c include/softdimo.h build
	$(CC) -std=c99 $(CFLAGS) $(WARNINGS) -Iinclude $< -o $@ -L$(TARGET)/release -lsoftdimo '-Wl,-rpath,$$ORIGIN'

test: runtime
	$(CARGO) build --workspace
	$(CARGO) test --workspace

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

clean:
	$(CARGO) clean
	rm -f sample.png

include bindings/install.mk
include docs/docs.mk
