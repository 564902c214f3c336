# make install [PREFIX=/usr/local] [LIBDIR=lib] [DESTDIR=]: put what `make build` made under PREFIX (ELF systems). What is
# installed can be moved as a whole. BUILD is the folder of libsoftdimo.so and the program, ORT the ONNX Runtime to ship;
# VERSION and ABI are the Makefile's.

PREFIX ?= /usr/local
LIBDIR ?= lib
BUILD ?= $(or $(CARGO_TARGET_DIR),target)/release
BUNDLED_MODEL ?= models/emoji-32.softdimo.safetensors
ORT ?= target/onnxruntime/libonnxruntime.so

# What makes BUILD, where nobody names another folder: for those that build what they put together.
built := $(if $(filter file,$(origin BUILD)),build)

# From the library folder up to the prefix, e.g. "..".
LIB_TO_PREFIX := $(shell echo $(LIBDIR) | sed 's/[^/][^/]*/../g')

.PHONY: install
install:
	@for f in $(BUILD)/libsoftdimo.so $(BUILD)/softdimo $(ORT); do \
	  test -f $$f || { echo "make install: $$f is missing: run make build first" >&2; exit 1; }; done
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin include share/softdimo $(LIBDIR)/softdimo $(LIBDIR)/pkgconfig $(LIBDIR)/cmake/softdimo)
	install -m 644 include/softdimo.h bindings/cpp/softdimo.hpp $(DESTDIR)$(PREFIX)/include
	install -m 644 $(BUNDLED_MODEL) $(DESTDIR)$(PREFIX)/share/softdimo
	install -m 755 $(BUILD)/libsoftdimo.so $(DESTDIR)$(PREFIX)/$(LIBDIR)/libsoftdimo.so.$(VERSION)
	ln -sf libsoftdimo.so.$(VERSION) $(DESTDIR)$(PREFIX)/$(LIBDIR)/libsoftdimo.so.$(ABI)
	ln -sf libsoftdimo.so.$(ABI) $(DESTDIR)$(PREFIX)/$(LIBDIR)/libsoftdimo.so
	install -m 755 $(ORT) $(DESTDIR)$(PREFIX)/$(LIBDIR)/libonnxruntime.so
	# The program looks for the runtime beside itself, and links nothing of libsoftdimo.so.
	install -m 755 $(BUILD)/softdimo $(DESTDIR)$(PREFIX)/$(LIBDIR)/softdimo/softdimo
	ln -sf ../libonnxruntime.so $(DESTDIR)$(PREFIX)/$(LIBDIR)/softdimo/libonnxruntime.so
	ln -sf ../$(LIBDIR)/softdimo/softdimo $(DESTDIR)$(PREFIX)/bin/softdimo
	for f in pkgconfig/softdimo.pc cmake/softdimo-config.cmake cmake/softdimo-config-version.cmake; do \
	  sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@ABI@|$(ABI)|g' -e 's|@ABI_PATTERN@|$(subst .,[.],$(ABI))|g' \
	      -e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@LIB_TO_PREFIX@|$(LIB_TO_PREFIX)|g' \
	      bindings/$$f.in > $(DESTDIR)$(PREFIX)/$(LIBDIR)/$$(echo $$f | sed 's|cmake/|cmake/softdimo/|'); done
