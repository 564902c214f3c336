# make triton       TRITON: a backend for Triton Inference Server (softdimo/) and a model repository to begin with (models/)
# make test-triton  runs tests/triton against Triton 2.51.0, which is downloaded once: 55 MB
#
# tritonserver --backend-directory=target/triton --model-repository=target/triton/models
# Linux only. BUILD and ORT are those of bindings/platform.mk, OUT and ABI the Makefile's.

TRITON ?= $(OUT)/triton
TRITON_BACKEND := $(TRITON)/softdimo
TRITON_MODEL := $(TRITON)/models/emoji-32
TRITON_SOURCES := $(wildcard bindings/triton/*.cpp)
TRITON_JSON := target/tools/nlohmann-json

CXX ?= c++
CXXFLAGS ?= -O2

.PHONY: triton test-triton
triton: plugin-files
	$(if $(filter $(HOST),$(TARGET)),,$(error make triton: expected TARGET=$(HOST), found $(TARGET)))
	scripts/fetch-triton json $(TRITON_JSON)
	install -d $(TRITON_BACKEND) $(TRITON_MODEL)/1
	$(call libraries,$(TRITON_BACKEND),libsoftdimo.so.$(ABI))
	$(CXX) -std=c++17 -shared -fPIC -fvisibility=hidden $(CXXFLAGS) $(WARNINGS) -Iinclude -Ibindings/cpp \
	  -isystem $(TRITON_JSON)/include $(TRITON_SOURCES) -o $(TRITON_BACKEND)/libtriton_softdimo.so \
	  $(TRITON_BACKEND)/libsoftdimo.so.$(ABI) '-Wl,-rpath,$$ORIGIN' -Wl,--version-script=bindings/triton/exports.map
	install -m 644 bindings/triton/models/emoji-32/config.pbtxt $(TRITON_MODEL)
	install -m 644 $(BUNDLED_MODEL) $(TRITON_MODEL)/1
	$(call readme,triton,$(TRITON_BACKEND),)
	$(call licences,$(TRITON_BACKEND)/licences)
	{ sed -n 's|^// SPDX-||p' $(TRITON_JSON)/include/nlohmann/json.hpp; sed '1,/^Copyright/d' LICENSE-MIT; } \
	  > $(TRITON_BACKEND)/licences/nlohmann-json.txt

test-triton: runtime
	$(CARGO) build -p libsoftdimo
	$(CARGO) test -p libsoftdimo --test hosts -- --ignored triton --nocapture
