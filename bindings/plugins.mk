# make plugins    folders to drop into engines, whole: bindings/* with the library, ONNX Runtime and the bundled model in place.
#                 One of them: make plugin-love
#
# They are put below PLUGINS. BUILD, ORT and BUNDLED_MODEL are those of make install, VERSION and ABI the Makefile's.

PLUGINS ?= $(or $(CARGO_TARGET_DIR),target)/plugins

.PHONY: plugins plugin-love plugin-files
plugins: plugin-love

plugin-files:
	@for f in $(BUILD)/libsoftdimo.so $(ORT); do \
	  test -f $$f || { echo "make plugins: $$f is missing: run make build first" >&2; exit 1; }; done

# A game to start with: love target/plugins/love
plugin-love: plugin-files
	install -d $(PLUGINS)/love
	install -m 644 bindings/love/softdimo.lua bindings/love/game/*.lua $(BUNDLED_MODEL) $(PLUGINS)/love
	install -m 755 $(BUILD)/libsoftdimo.so $(ORT) $(PLUGINS)/love
