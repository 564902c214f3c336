# make dist    DIST: a folder to build programs against and to ship parts of, with the licences of all that is in it. It is
#              what make install installs, and the static library, notices and an example beside it; bindings/dist/README.md
#              becomes its README. BUILD, ORT and BUNDLED_MODEL are those of make install, VERSION and ABI the Makefile's.

DIST ?= $(or $(CARGO_TARGET_DIR),target)/dist/softdimo-$(VERSION)-linux-x86_64
RUST_NOTICES ?= $(shell rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html

# The licences of all that is in a folder that is handed on, into its folder of this name.
define licences
@test -f $(RUST_NOTICES) || { echo "$(RUST_NOTICES) is missing: RUST_NOTICES=FILE names another" >&2; exit 1; }
install -d $(1)
install -m 644 LICENSE-MIT LICENSE-APACHE models/emoji-32.md $(1)
install -m 644 $(dir $(ORT))LICENSE $(1)/onnxruntime-LICENSE.txt
install -m 644 $(dir $(ORT))ThirdPartyNotices.txt $(1)/onnxruntime-ThirdPartyNotices.txt
install -m 644 $(RUST_NOTICES) $(1)/rust-library.html
scripts/notices $(1)/crates.txt
endef

.PHONY: dist
dist: $(built)
	@test -f $(BUILD)/libsoftdimo.a || { echo "make dist: $(BUILD)/libsoftdimo.a is missing: run make build first" >&2; exit 1; }
	rm -rf $(DIST)
	$(MAKE) --no-print-directory install PREFIX=/ LIBDIR=lib DESTDIR=$(DIST) BUILD=$(BUILD) ORT=$(ORT)
	# One file by the name that programs load, which is a file on every medium, and the name they are linked by.
	mv $(DIST)/lib/libsoftdimo.so.$(VERSION) $(DIST)/lib/libsoftdimo.so.$(ABI)
	install -m 644 $(BUILD)/libsoftdimo.a $(DIST)/lib
	install -d $(DIST)/example
	awk '/^```c$$/ { inside = 1; next } /^```$$/ { if (inside) exit } inside' README.md > $(DIST)/example/first.c
	sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@ABI@|$(ABI)|g' -e 's|@MODEL@|$(notdir $(BUNDLED_MODEL))|g' \
	  bindings/dist/README.md > $(DIST)/README.md
	$(call licences,$(DIST)/licences)
