# make docs         the Rust documentation (target/doc/softdimo) and the reference; a warning is an error
# make reference    the C and C++ reference alone (target/doxygen/html), by a pinned Doxygen or by DOXYGEN=doxygen

DOXYGEN ?= target/tools/doxygen

.PHONY: docs reference
docs: reference
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

reference:
	@$(if $(filter target/tools/doxygen,$(DOXYGEN)),scripts/fetch-doxygen target/tools)
	$(DOXYGEN) docs/Doxyfile
