# make plugins    folders to drop into engines, whole: bindings/* with the library, ONNX Runtime and the bundled model in place.
#                 One of them: make plugin-love
#
# They are put below PLUGINS. A game is exported for several systems from one project: make plugins TARGET=windows-x86_64
# puts the files for Windows beside those that are there. TARGET, BUILD and ORT are those of bindings/platform.mk, VERSION and ABI
# the Makefile's.

PLUGINS ?= $(OUT)/plugins

.PHONY: plugins plugin-files plugin-love plugin-unity plugin-godot3 plugin-godot4 plugin-python
plugins: plugin-love plugin-unity plugin-godot3 plugin-godot4 plugin-python

# What nodes are linked to.
LINKED := $(BUILD)/$(if $(filter windows,$(SYSTEM)),libsoftdimo.dll.a,libsoftdimo.so)

plugin-files: $(built)
	$(if $(filter $(HOST) windows-x86_64,$(TARGET)),,$(error make plugins: expected TARGET=$(HOST) or TARGET=windows-x86_64, \
	  found $(TARGET): two libraries of one name would lie in a folder))
	$(call need,$(BUILD)/$(SHARED) $(LINKED) $(ORT),plugins)

# The library, under the name (2) if one is given, and ONNX Runtime into the folder (1).
define libraries
install -m 755 $(BUILD)/$(SHARED) $(1)/$(or $(2),$(SHARED))
install -m 755 $(ORT) $(1)
$(if $(filter windows,$(SYSTEM)),$(toolchain) x86_64-w64-mingw32-strip $(1)/$(SHARED))
endef

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
	$(call libraries,$(PLUGINS)/love)
	$(call readme,love,$(PLUGINS)/love,)
	$(call licences,$(PLUGINS)/love/licences)

# A package for Unity's package manager: "Add package from disk", its package.json. Unity is told by .meta files which library is
# for which system.
UNITY := $(PLUGINS)/unity/com.libsoftdimo.softdimo
UNITY_SYSTEM := $(if $(filter windows,$(SYSTEM)),Windows,Linux)
UNITY_PLAYER := $(if $(filter windows,$(SYSTEM)),Win64,Linux64)
plugin-unity: plugin-files
	install -d $(UNITY)/Runtime $(UNITY)/Plugins/x86_64 $(UNITY)/Samples~/Sprites
	install -m 644 bindings/csharp/package.json $(UNITY)
	$(call readme,csharp,$(UNITY),Documentation~/)
	install -m 644 bindings/csharp/Runtime/* $(UNITY)/Runtime
	install -m 644 bindings/csharp/Samples~/Sprites/* $(BUNDLED_MODEL) $(UNITY)/Samples~/Sprites
	$(call libraries,$(UNITY)/Plugins/x86_64)
	for f in $(SHARED) $(RUNTIME); do \
	  sed -e "s|@GUID@|$$(printf %s softdimo/$$f | md5sum | cut -c1-32)|" -e 's|@SYSTEM@|$(UNITY_SYSTEM)|' \
	    -e 's|@PLAYER@|$(UNITY_PLAYER)|' bindings/csharp/Plugins/x86_64/library.meta.in > $(UNITY)/Plugins/x86_64/$$f.meta; done
	$(call licences,$(UNITY)/Licences~)

# Projects to start with: godot3 --path target/plugins/godot3. Their addons/softdimo is what is dropped into another.
GODOT_HEADERS := target/godot
GODOT_LIBRARY := $(if $(filter windows,$(SYSTEM)),softdimo.dll,libsoftdimo.so.$(ABI))
$(GODOT_HEADERS)/headers.version: scripts/fetch-godot-headers
	scripts/fetch-godot-headers $(GODOT_HEADERS)

# The node of bindings/(1), which finds the library in its own folder (2).
godot_flags = -std=c99 -shared $(CFLAGS) -Iinclude -Ibindings/godot -isystem $(GODOT_HEADERS)/$(1) $(WARNINGS)
node_linux = $(CC) -fPIC $(godot_flags) bindings/$(1)/softdimo_$(1).c -o $(2)/libsoftdimo_$(1).so $(2)/$(GODOT_LIBRARY) \
  '-Wl,-rpath,$$ORIGIN'
node_windows = $(toolchain) x86_64-w64-mingw32-gcc -s -static-libgcc $(godot_flags) bindings/$(1)/softdimo_$(1).c \
  -o $(2)/softdimo_$(1).dll $(LINKED)

GODOT3 := $(PLUGINS)/godot3/addons/softdimo
plugin-godot3: plugin-files $(GODOT_HEADERS)/headers.version
	install -d $(GODOT3)
	install -m 644 bindings/godot3/demo/* $(PLUGINS)/godot3
	install -m 644 bindings/godot3/addons/softdimo/* bindings/godot3/README.md $(BUNDLED_MODEL) $(GODOT3)
	sed -i 's|@ABI@|$(ABI)|g' $(GODOT3)/softdimo.gdnlib
	$(call libraries,$(GODOT3),$(GODOT_LIBRARY))
	$(call licences,$(GODOT3)/licences)
	$(call node_$(SYSTEM),godot3,$(GODOT3))

GODOT4 := $(PLUGINS)/godot4/addons/softdimo
plugin-godot4: plugin-files $(GODOT_HEADERS)/headers.version
	install -d $(GODOT4)
	install -m 644 bindings/godot4/addons/softdimo/* $(BUNDLED_MODEL) $(GODOT4)
	# Which has the table of methods and signals.
	install -m 644 bindings/godot3/README.md $(GODOT4)/godot3.md
	sed 's|(../godot3/README.md)|(godot3.md)|' bindings/godot4/README.md > $(GODOT4)/README.md
	sed -i 's|@ABI@|$(ABI)|g' $(GODOT4)/softdimo.gdextension
	$(call libraries,$(GODOT4),$(GODOT_LIBRARY))
	$(call licences,$(GODOT4)/licences)
	$(call node_$(SYSTEM),godot4,$(GODOT4))

# A package for PYTHONPATH=target/plugins/python, with what the wheel has, and ONNX Runtime.
PYTHON_PLUGIN := $(PLUGINS)/python/softdimo
plugin-python: plugin-files $(PYTHON_FFI)
	install -d $(PYTHON_PLUGIN)/_native
	install -m 644 bindings/python/README.md $(PLUGINS)/python
	install -m 644 bindings/python/softdimo/*.py* bindings/python/softdimo/py.typed $(BUNDLED_MODEL) $(PYTHON_PLUGIN)
	install -m 644 bindings/python/plugin.py $(PYTHON_PLUGIN)/_native/__init__.py
	install -m 644 $(PYTHON_FFI) $(PYTHON_PLUGIN)/_native
	$(call libraries,$(PYTHON_PLUGIN)/_native)
	$(call licences,$(PYTHON_PLUGIN)/licences)
