# make plugins    folders to drop into engines, whole: bindings/* with the library, ONNX Runtime and the bundled model in place.
#                 One of them: make plugin-love
#
# They are put below PLUGINS. BUILD, ORT and BUNDLED_MODEL are those of make install, VERSION and ABI the Makefile's.

PLUGINS ?= $(or $(CARGO_TARGET_DIR),target)/plugins

.PHONY: plugins plugin-files plugin-love plugin-unity plugin-godot3 plugin-godot4 plugin-python
plugins: plugin-love plugin-unity plugin-godot3 plugin-godot4 plugin-python

plugin-files: $(built)
	@for f in $(BUILD)/libsoftdimo.so $(ORT); do \
	  test -f $$f || { echo "make plugins: $$f is missing: run make build first" >&2; exit 1; }; done

# The README of bindings/(1) into a folder (2), and beside it (3) the header, whose names it speaks of.
define readme
install -d $(2)/$(3)
install -m 644 include/softdimo.h $(2)/$(3)
sed 's|(../../include/softdimo.h)|($(3)softdimo.h)|' bindings/$(1)/README.md > $(2)/README.md
endef

# A game to start with: love target/plugins/love
plugin-love: plugin-files
	install -d $(PLUGINS)/love
	install -m 644 bindings/love/softdimo.lua bindings/love/game/*.lua $(BUNDLED_MODEL) $(PLUGINS)/love
	install -m 755 $(BUILD)/libsoftdimo.so $(ORT) $(PLUGINS)/love
	$(call readme,love,$(PLUGINS)/love,)
	$(call licences,$(PLUGINS)/love/licences)

# A package for Unity's package manager: "Add package from disk", its package.json.
UNITY := $(PLUGINS)/unity/com.libsoftdimo.softdimo
plugin-unity: plugin-files
	install -d $(UNITY)/Runtime $(UNITY)/Plugins/x86_64 $(UNITY)/Samples~/Sprites
	install -m 644 bindings/csharp/package.json $(UNITY)
	$(call readme,csharp,$(UNITY),Documentation~/)
	install -m 644 bindings/csharp/Runtime/* $(UNITY)/Runtime
	install -m 644 bindings/csharp/Samples~/Sprites/* $(BUNDLED_MODEL) $(UNITY)/Samples~/Sprites
	install -m 755 $(BUILD)/libsoftdimo.so $(ORT) $(UNITY)/Plugins/x86_64
	$(call licences,$(UNITY)/Licences~)

# Projects to start with: godot3 --path target/plugins/godot3. Their addons/softdimo is what is dropped into another.
GODOT_HEADERS := target/godot
GODOT_CFLAGS := -std=c99 -shared -fPIC $(CFLAGS) -Iinclude -Ibindings/godot
$(GODOT_HEADERS)/headers.version: scripts/fetch-godot-headers
	scripts/fetch-godot-headers $(GODOT_HEADERS)

plugin-godot3: plugin-files $(GODOT_HEADERS)/headers.version
	install -d $(PLUGINS)/godot3/addons/softdimo
	install -m 644 bindings/godot3/demo/* $(PLUGINS)/godot3
	install -m 644 bindings/godot3/addons/softdimo/* bindings/godot3/README.md $(BUNDLED_MODEL) $(PLUGINS)/godot3/addons/softdimo
	sed -i 's|@ABI@|$(ABI)|g' $(PLUGINS)/godot3/addons/softdimo/softdimo.gdnlib
	install -m 755 $(BUILD)/libsoftdimo.so $(PLUGINS)/godot3/addons/softdimo/libsoftdimo.so.$(ABI)
	install -m 755 $(ORT) $(PLUGINS)/godot3/addons/softdimo
	$(call licences,$(PLUGINS)/godot3/addons/softdimo/licences)
	$(CC) $(GODOT_CFLAGS) -isystem $(GODOT_HEADERS)/godot3 $(WARNINGS) bindings/godot3/softdimo_godot3.c \
	  -o $(PLUGINS)/godot3/addons/softdimo/libsoftdimo_godot3.so $(PLUGINS)/godot3/addons/softdimo/libsoftdimo.so.$(ABI) '-Wl,-rpath,$$ORIGIN'

plugin-godot4: plugin-files $(GODOT_HEADERS)/headers.version
	install -d $(PLUGINS)/godot4/addons/softdimo
	install -m 644 bindings/godot4/addons/softdimo/* $(BUNDLED_MODEL) $(PLUGINS)/godot4/addons/softdimo
	# Which has the table of methods and signals.
	install -m 644 bindings/godot3/README.md $(PLUGINS)/godot4/addons/softdimo/godot3.md
	sed 's|(../godot3/README.md)|(godot3.md)|' bindings/godot4/README.md > $(PLUGINS)/godot4/addons/softdimo/README.md
	sed -i 's|@ABI@|$(ABI)|g' $(PLUGINS)/godot4/addons/softdimo/softdimo.gdextension
	install -m 755 $(BUILD)/libsoftdimo.so $(PLUGINS)/godot4/addons/softdimo/libsoftdimo.so.$(ABI)
	install -m 755 $(ORT) $(PLUGINS)/godot4/addons/softdimo
	$(call licences,$(PLUGINS)/godot4/addons/softdimo/licences)
	$(CC) $(GODOT_CFLAGS) -isystem $(GODOT_HEADERS)/godot4 $(WARNINGS) bindings/godot4/softdimo_godot4.c \
	  -o $(PLUGINS)/godot4/addons/softdimo/libsoftdimo_godot4.so $(PLUGINS)/godot4/addons/softdimo/libsoftdimo.so.$(ABI) '-Wl,-rpath,$$ORIGIN'

# A package: PYTHONPATH=target/plugins/python
plugin-python: plugin-files
	install -d $(PLUGINS)/python/softdimo
	$(call readme,python,$(PLUGINS)/python,)
	install -m 644 bindings/python/softdimo/*.py $(PLUGINS)/python/softdimo
	install -m 755 $(BUILD)/libsoftdimo.so $(ORT) $(PLUGINS)/python/softdimo
	$(call licences,$(PLUGINS)/python/softdimo/licences)
