# make dist    DIST: a folder to build programs against and to ship parts of, with the licences of all that is in it. It is
#              what make install installs, and the static library (ELF systems), notices and an example beside it;
#              bindings/dist/SYSTEM.md becomes its README. For another platform: make dist TARGET=windows-x86_64.
#              TARGET, BUILD and ORT are those of bindings/platform.mk, VERSION and ABI the Makefile's.

DIST ?= $(OUT)/dist/softdimo-$(VERSION)-$(TARGET)
TITLE := $(subst linux-x86_64,Linux x86-64,$(subst linux-aarch64,Linux ARM64,$(subst windows-x86_64,Windows x64,$(TARGET))))

# The notices of Rust's standard library, and of what mingw-w64 puts into every program: where the compiler comes from.
DEBIAN_DOCS := $(CROSS)/root/usr/share/doc
ifeq ($(TARGET),$(HOST))
RUST_NOTICES ?= $(shell rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html
rust_notices_name := rust-library.html
else
RUST_NOTICES ?= $(DEBIAN_DOCS)/libstd-rust-web-dev/copyright
rust_notices_name := rust-library.txt
endif

# The licences of the library and the model into a folder, and of all that is in a folder that is handed on.
define own_licences
@test -f $(RUST_NOTICES) || { echo "$(RUST_NOTICES) is missing: RUST_NOTICES=FILE names another" >&2; exit 1; }
install -d $(1)
install -m 644 LICENSE-MIT LICENSE-APACHE models/emoji-32.md $(1)
install -m 644 $(RUST_NOTICES) $(1)/$(rust_notices_name)
$(if $(filter windows,$(SYSTEM)),install -m 644 $(DEBIAN_DOCS)/mingw-w64-x86-64-dev/copyright $(1)/mingw-w64.txt)
$(if $(filter windows,$(SYSTEM)),install -m 644 $(DEBIAN_DOCS)/gcc-mingw-w64-x86-64-posix-runtime/copyright $(1)/gcc-runtime.txt)
scripts/notices $(1)/crates.txt
endef

define licences
$(call own_licences,$(1))
install -m 644 $(dir $(ORT))LICENSE $(1)/onnxruntime-LICENSE.txt
install -m 644 $(dir $(ORT))ThirdPartyNotices.txt $(1)/onnxruntime-ThirdPartyNotices.txt
endef

# What dist has of a system beside what is installed there. ELF: one file by the name that programs load, which is a file on
# every medium, and the name they are linked by.
define dist_linux
mv $(DIST)/lib/libsoftdimo.so.$(VERSION) $(DIST)/lib/libsoftdimo.so.$(ABI)
install -m 644 $(BUILD)/libsoftdimo.a $(DIST)/lib
endef
dist_windows :=

.PHONY: dist
dist: $(built)
	$(if $(filter linux,$(SYSTEM)),$(call need,$(BUILD)/libsoftdimo.a,dist))
	rm -rf $(DIST)
	$(MAKE) --no-print-directory install PREFIX=/ LIBDIR=lib DESTDIR=$(DIST) BUILD=$(BUILD) ORT=$(ORT) TARGET=$(TARGET)
	$(dist_$(SYSTEM))
	install -d $(DIST)/example
	awk '/^```c$$/ { inside = 1; next } /^```$$/ { if (inside) exit } inside' README.md > $(DIST)/example/first.c
	sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@ABI@|$(ABI)|g' -e 's|@MODEL@|$(notdir $(BUNDLED_MODEL))|g' \
	  -e 's|@TITLE@|$(TITLE)|g' bindings/dist/$(SYSTEM).md > $(DIST)/README.md
	$(call licences,$(DIST)/licences)
