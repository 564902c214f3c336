# make sample    build the library, fetch ONNX Runtime, write sample.png
# make test      run every test but those of full size and of hosts; prints how long building and testing took
# make test-hosts run the folders of bindings/ in their engines: LÖVE, Godot 3, Mono; scripts/check-tools names what to install
# make test-dist build and run programs with what is shipped for Windows and ARM64 (scripts/cross install)
# make wheel    target/wheels: the wheel that pip installs (bindings/python/python.mk)
# make test-python build such a wheel, install it into fresh environments and test it there
# make test-full run those of full size and the exit stress test: minutes, and gigabytes of memory and disk
# make test-nightly the long gates (scripts/nightly): fuzzing, Valgrind, faults, stress, soak; two hours, and a summary
# make lint      formatting, clippy and documentation without a warning
# make docs      the Rust, C and C++ documentation (docs/docs.mk)
# make install   PREFIX=/usr/local DESTDIR=
# make dist      target/dist: a folder to build programs against and to ship (bindings/dist.mk)
# make plugins   target/plugins: folders to drop into engines (bindings/plugins.mk)
# make triton    target/triton: a backend for Triton Inference Server; make test-triton runs it in one (bindings/triton/triton.mk)
# make dist and make plugins for another platform: TARGET=windows-x86_64 or TARGET=linux-aarch64 (bindings/platform.mk)

CARGO ?= cargo
CC ?= cc
OUT := $(or $(CARGO_TARGET_DIR),target)
VERSION := $(shell sed -n '/^version = /{s/^version = "\(.*\)"/\1/p;q;}' Cargo.toml)
ABI := $(or $(shell scripts/abi-version $(VERSION)),$(error the version of the ABI is not known))
MODEL := models/emoji-32.softdimo.safetensors
CFLAGS ?= -O2
WARNINGS := -Wall -Wextra -pedantic -Werror

.PHONY: sample test test-hosts test-dist test-full test-nightly lint check tools runtime build clean

sample: build $(OUT)/release/cli_sample
	$(OUT)/release/cli_sample $(MODEL) sample.png

build: runtime
	$(CARGO) build --release
	ln -sf libsoftdimo.so $(OUT)/release/libsoftdimo.so.$(ABI)

# What is missing here is said before anything is built.
check:
	@scripts/check-tools sample

# Beside the programs that look there, and where .cargo/config.toml points for everything cargo runs.
runtime: check
	scripts/fetch-onnxruntime target/onnxruntime $(OUT)/release $(OUT)/debug

$(OUT)/release/cli_sample: examples/cli_sample/cli_sample.c include/softdimo.h build
	$(CC) -std=c99 $(CFLAGS) $(WARNINGS) -Iinclude $< -o $@ -L$(OUT)/release -lsoftdimo '-Wl,-rpath,$$ORIGIN'

# What tests use beside that: CMake, pkgconf, the weights of a classifier, headers of Godot's, OpenVINO, an environment of Python's.
tools:
	@scripts/check-tools test
	scripts/fetch-tools target/tools
	scripts/fetch-efficientnet $(OUT)/tmp/efficientnet
	scripts/fetch-godot-headers target/godot
	scripts/fetch-openvino target/openvino

test: tools runtime
	@set -e; began=$$(date +%s); \
	$(CARGO) build --workspace; $(CARGO) test --workspace --no-run; built=$$(date +%s); \
	$(CARGO) test --workspace --no-fail-fast; ended=$$(date +%s); \
	echo "make test: $$((built - began)) s of building, $$((ended - built)) s of testing; engines: make test-hosts"

test-hosts: runtime
	@scripts/check-tools test-hosts
	$(CARGO) build -p libsoftdimo
	$(CARGO) test -p libsoftdimo --test hosts -- --ignored --skip cross --skip triton --nocapture

test-dist: tools runtime
	@test -f $(CROSS)/root.version || { echo "make test-dist needs what scripts/cross install makes" >&2; exit 1; }
	$(CARGO) test -p libsoftdimo --test hosts -- --ignored cross --nocapture

test-full: tools runtime
	$(CARGO) test -p softdimo-cli --test full_size -- --nocapture
	$(CARGO) build -p libsoftdimo
	$(CARGO) test -p libsoftdimo --test capi -- full_ --ignored --nocapture

test-nightly: tools runtime
	scripts/nightly

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

clean:
	$(CARGO) clean
	rm -f sample.png

include bindings/platform.mk
include bindings/install.mk
include bindings/dist.mk
include bindings/python/python.mk
include bindings/plugins.mk
include bindings/triton/triton.mk
include docs/docs.mk
