# make install [PREFIX=/usr/local] [LIBDIR=lib] [DESTDIR=]: put what `make build` made under PREFIX. What is installed can be
# moved as a whole. BUILD, ORT and what is said of TARGET are those of bindings/platform.mk, VERSION and ABI the Makefile's.

PREFIX ?= /usr/local
LIBDIR ?= lib
BUNDLED_MODEL ?= models/emoji-32.softdimo.safetensors

# From the library folder up to the prefix, e.g. "..".
LIB_TO_PREFIX := $(shell echo $(LIBDIR) | sed 's/[^/][^/]*/../g')
CMAKE_SYSTEM := $(if $(filter windows,$(SYSTEM)),Windows,$(shell uname -s))
INSTALLED := $(DESTDIR)$(PREFIX)

.PHONY: install install-linux install-windows
install: install-$(SYSTEM)
	install -d $(addprefix $(INSTALLED)/,include share/softdimo $(LIBDIR)/pkgconfig $(LIBDIR)/cmake/softdimo)
	install -m 644 include/softdimo.h bindings/cpp/softdimo.hpp $(INSTALLED)/include
	install -m 644 $(BUNDLED_MODEL) $(INSTALLED)/share/softdimo
	for f in pkgconfig/softdimo.pc cmake/softdimo-config.cmake cmake/softdimo-config-version.cmake; do \
	  sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@ABI@|$(ABI)|g' -e 's|@ABI_PATTERN@|$(subst .,[.],$(ABI))|g' \
	      -e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@LIB_TO_PREFIX@|$(LIB_TO_PREFIX)|g' -e 's|@SYSTEM@|$(CMAKE_SYSTEM)|g' \
	      -e 's|@TARGET@|$(TARGET)|g' \
	      bindings/$$f.in > $(INSTALLED)/$(LIBDIR)/$$(echo $$f | sed 's|cmake/|cmake/softdimo/|'); done

install-linux:
	$(call need,$(BUILD)/libsoftdimo.so $(BUILD)/softdimo $(ORT),install)
	install -d $(addprefix $(INSTALLED)/,bin $(LIBDIR)/softdimo)
	install -m 755 $(BUILD)/libsoftdimo.so $(INSTALLED)/$(LIBDIR)/libsoftdimo.so.$(VERSION)
	ln -sf libsoftdimo.so.$(VERSION) $(INSTALLED)/$(LIBDIR)/libsoftdimo.so.$(ABI)
	ln -sf libsoftdimo.so.$(ABI) $(INSTALLED)/$(LIBDIR)/libsoftdimo.so
	install -m 755 $(ORT) $(INSTALLED)/$(LIBDIR)/libonnxruntime.so
	# The program looks for the runtime beside itself, and links nothing of libsoftdimo.so.
	install -m 755 $(BUILD)/softdimo $(INSTALLED)/$(LIBDIR)/softdimo/softdimo
	ln -sf ../libonnxruntime.so $(INSTALLED)/$(LIBDIR)/softdimo/libonnxruntime.so
	ln -sf ../$(LIBDIR)/softdimo/softdimo $(INSTALLED)/bin/softdimo

# Windows looks for DLLs where a program starts: in bin. MSVC's linker and lld-link take softdimo.lib, mingw's libsoftdimo.dll.a.
install-windows:
	$(call need,$(BUILD)/softdimo.dll $(BUILD)/libsoftdimo.dll.a $(BUILD)/softdimo.exe $(ORT),install)
	install -d $(addprefix $(INSTALLED)/,bin $(LIBDIR))
	install -m 755 $(BUILD)/softdimo.dll $(BUILD)/softdimo.exe $(ORT) $(INSTALLED)/bin
	$(toolchain) x86_64-w64-mingw32-strip $(INSTALLED)/bin/softdimo.dll $(INSTALLED)/bin/softdimo.exe
	install -m 644 $(BUILD)/libsoftdimo.dll.a $(INSTALLED)/$(LIBDIR)
	scripts/import-library $(BUILD)/libsoftdimo.dll.a $(INSTALLED)/$(LIBDIR)/softdimo.lib
