# make wheel        target/wheels: one wheel for every Python from 3.11 on, for Linux of glibc 2.17 or newer (manylinux2014). What makes
#                   it comes from PyPI, pinned by hash (bindings/python/requirements.txt)
# make test-python  a wheel built by cargo's dev profile, which has all but the linking in common with that, checked, installed into fresh
#                   environments of the oldest and the newest Python from 3.11 on, and tested there: bindings/python/test. ALL=1: of all
#                   that are found, with the tests that take minutes
#
# PYTHON, 3.11 or newer, runs what builds. OUT and CARGO are the Makefile's, RUST_NOTICES bindings/dist.mk's.

.PHONY: python-package wheel test-python
PYTHON ?= python3
PYTHON_WORK := $(OUT)/python
PYTHON_TOOLS := $(PYTHON_WORK)/tools/bin/python
PYTHON_PACKAGE := $(PYTHON_WORK)/package
WHEELS ?= $(OUT)/wheels

# An environment of its own for what builds.
$(PYTHON_WORK)/tools.version: bindings/python/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PYTHON=$(PYTHON): expected 3.11 or newer, found " + sys.version)'
	rm -rf $(PYTHON_WORK)/tools
	$(PYTHON) -m venv $(PYTHON_WORK)/tools
	$(PYTHON_TOOLS) -m pip install --quiet --require-hashes --only-binary :all: -r $<
	cp $< $@

$(PYTHON_WORK)/zig.version: bindings/python/requirements-zig.txt $(PYTHON_WORK)/tools.version
	$(PYTHON_TOOLS) -m pip install --quiet --require-hashes --only-binary :all: -r $<
	cp $< $@

# Tests run the folder of `make plugin-python` in it.
tools: $(PYTHON_WORK)/tools.version

# The declarations: where maturin looks for the header of a crate, and for a folder that is made without it.
PYTHON_FFI := $(PYTHON_WORK)/ffi.py
$(PYTHON_FFI): include/softdimo.h bindings/python/declare.py $(PYTHON_WORK)/tools.version
	$(PYTHON_TOOLS) bindings/python/declare.py $< $(OUT)/header.h $@

# The project that maturin builds: the package, and what the repository has elsewhere.
python-package: $(PYTHON_FFI)
	rm -rf $(PYTHON_PACKAGE)
	install -d $(PYTHON_PACKAGE)/softdimo
	install -m 644 bindings/python/README.md $(PYTHON_PACKAGE)
	sed 's|"../c/Cargo.toml"|"$(abspath bindings/c/Cargo.toml)"|' bindings/python/pyproject.toml > $(PYTHON_PACKAGE)/pyproject.toml
	install -m 644 bindings/python/softdimo/*.py* bindings/python/softdimo/py.typed $(BUNDLED_MODEL) $(PYTHON_PACKAGE)/softdimo
	$(call own_licences,$(PYTHON_PACKAGE)/licences)

maturin = cd $(PYTHON_PACKAGE) && PATH=$(abspath $(PYTHON_WORK)/tools/bin):$$PATH CARGO=$(CARGO) $(1) maturin build --quiet

# What is handed on says nothing of where it was built: crates' files are named in messages, folders in the SBOM.
CARGO_HOME ?= $(HOME)/.cargo
PYTHON_RELEASE := $(PYTHON_WORK)/release
remapped = RUSTFLAGS="$(RUSTFLAGS) --remap-path-prefix=$(CARGO_HOME)=/cargo --remap-path-prefix=$(CURDIR)=/softdimo"

wheel: python-package $(PYTHON_WORK)/zig.version
	rm -rf $(PYTHON_RELEASE)
	$(call maturin,$(remapped)) --release --zig --compatibility manylinux2014 --out $(abspath $(PYTHON_RELEASE))
	for f in $(PYTHON_RELEASE)/*.whl; do $(PYTHON_TOOLS) bindings/python/clean.py $$f $(CURDIR) $(CURDIR) $(CARGO_HOME) || exit 1; done
	install -d $(WHEELS)
	install -m 644 $(PYTHON_RELEASE)/*.whl $(WHEELS)
	@ls -l $(WHEELS)

# Not remapped: all would be compiled once more.
test-python: python-package runtime
	rm -rf $(PYTHON_WORK)/wheels
	$(maturin) --out $(abspath $(PYTHON_WORK)/wheels)
	for f in $(PYTHON_WORK)/wheels/*.whl; do $(PYTHON_TOOLS) bindings/python/clean.py $$f $(CURDIR) || exit 1; done
	bindings/python/test $(PYTHON_WORK)/wheels/*.whl $(PYTHON_WORK)/test $(if $(ALL),--all)
