# What make install, make dist and make plugins put together is for TARGET: this machine's platform unless told, or
# windows-x86_64 or linux-aarch64, which scripts/cross builds. BUILD is the folder of what cargo has built for it and ORT the
# ONNX Runtime to ship; whoever names BUILD has built it. OUT is the Makefile's.

HOST := linux-$(shell uname -m)
TARGET := $(HOST)
CROSS ?= target/cross
TRIPLES := linux-x86_64=x86_64-unknown-linux-gnu linux-aarch64=aarch64-unknown-linux-gnu windows-x86_64=x86_64-pc-windows-gnu
TRIPLE := $(patsubst $(TARGET)=%,%,$(filter $(TARGET)=%,$(TRIPLES)))
$(if $(or $(TRIPLE),$(filter $(HOST),$(TARGET))),,$(error TARGET is '$(TARGET)': expected $(foreach pair,$(TRIPLES),$(firstword $(subst =, ,$(pair))))))
SYSTEM := $(firstword $(subst -, ,$(TARGET)))

# Files of the library and its runtime, as cargo names them.
SHARED := $(if $(filter windows,$(SYSTEM)),softdimo.dll,libsoftdimo.so)
RUNTIME := $(if $(filter windows,$(SYSTEM)),onnxruntime.dll,libonnxruntime.so)

ifeq ($(TARGET),$(HOST))
BUILD ?= $(OUT)/release
ORT ?= target/onnxruntime/$(RUNTIME)
built := build
else
BUILD ?= $(CROSS)/build/$(TRIPLE)/release
ORT ?= $(CROSS)/onnxruntime/$(TARGET)/$(RUNTIME)
built := cross-build
endif
# Where somebody names another folder, there is nothing to build.
built := $(if $(filter file,$(origin BUILD)),$(built))

# Before a program of the toolchain of TARGET, as in `$(toolchain) x86_64-w64-mingw32-strip`.
toolchain := scripts/cross tool $(TARGET)

.PHONY: cross-build
cross-build:
	@test -f $(CROSS)/root.version || { echo "TARGET=$(TARGET) needs what scripts/cross install makes" >&2; exit 1; }
	scripts/cross cargo $(TARGET) build --locked --release -p libsoftdimo -p softdimo-cli

# Says what is missing of the files $(1), to make $(2).
define need
@for f in $(1); do test -f $$f || { echo "make $(2): $$f is missing: run make build first" >&2; exit 1; }; done
endef
