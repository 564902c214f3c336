"""Pictures in process, over libsoftdimo.

    import softdimo

    with softdimo.open("emoji-32.softdimo.safetensors", threads=1, niceness=10) as engine:
        picture = engine.generate("red apple", seed=7)
        picture.save("apple.png")

- Calls that fail raise Error with the library's words; there is a subclass for every status, such as UnknownLabelError.
- Options of an engine and of a request are keyword arguments with the names of softdimo_engine_options and softdimo_request in
  softdimo.h; what is left out is the library's default.
- Calls that wait give way to other threads of Python. In a loop of frames use Engine.submit and Job.poll, in asyncio
  Engine.generate_async: neither waits.
- What has no method here is a function of `library`, as softdimo.h declares it, for the `handle` of an engine, a job, a reward.
- Engines, jobs and rewards free themselves when nothing refers to them, or by close() or `with`; in any order.
"""
import asyncio
import ctypes
import json
import os
import weakref

from . import _native

globals().update({name: value for name, value in vars(_native).items() if name.startswith("SOFTDIMO_")})


class Error(Exception):
    """A call failed. `status` is SOFTDIMO_ERR_*, `status_name` its name."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.status_name = status, _library.softdimo_status_name(status).decode()


def _subclasses():
    """A subclass of Error for every status: SOFTDIMO_ERR_NOT_FOUND is NotFoundError."""
    classes = {}
    for name, status in vars(_native).items():
        if name.startswith("SOFTDIMO_ERR_"):
            words = name[len("SOFTDIMO_ERR_"):].split("_")
            called = "".join(word.capitalize() for word in words) + "Error"
            classes[status] = globals()[called] = type(called, (Error,), {"__doc__": f"{name}"})
    return classes


_ERRORS = _subclasses()


def _load():
    """The library that SOFTDIMO_LIBRARY names, or the one in this folder, or the system's."""
    named = os.environ.get("SOFTDIMO_LIBRARY")
    name = "softdimo.dll" if os.name == "nt" else "libsoftdimo.so"
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    try:
        library = ctypes.CDLL(named or (beside if os.path.exists(beside) else name))
    except OSError as why:
        raise ImportError(f"expected {name} at {beside}, or named by SOFTDIMO_LIBRARY: {why}") from None
    found, expected = library.softdimo_abi_version() >> 16, _native.SOFTDIMO_ABI_VERSION >> 16
    if found != expected:
        raise ImportError(f"expected a library of ABI {expected}, found one of ABI {found}")
    _native.declare(library)
    return library


library = _library = _load()
version = _library.softdimo_version().decode()


def _last_error():
    buffer = ctypes.create_string_buffer(_library.softdimo_last_error(None, 0))
    _library.softdimo_last_error(buffer, len(buffer))
    return buffer.value.decode()


def _check(status):
    if status != _native.SOFTDIMO_OK:
        raise _ERRORS.get(status, Error)(status, _last_error())


def _text(function, handle):
    """By the header's text convention."""
    needed = ctypes.c_uint64()
    _check(function(handle, None, 0, ctypes.byref(needed)))
    buffer = ctypes.create_string_buffer(needed.value)
    _check(function(handle, buffer, needed, ctypes.byref(needed)))
    return buffer.value.decode()


def _bytes(text):
    """A text for a call: a string, a path, or bytes."""
    encoded = text if isinstance(text, bytes) else os.fspath(text).encode()
    if b"\0" in encoded:
        raise ValueError(f"a text has a NUL inside: {text!r}")
    return encoded


def _initialised(kind):
    value = kind()
    _check(getattr(_library, f"{kind.__name__}_init")(ctypes.byref(value), ctypes.sizeof(value)))
    return value


def _assign(struct, fields):
    """Keyword arguments into a struct's fields."""
    known = {name: kind for name, kind in struct._fields_ if not name.startswith(("reserved", "struct_size"))}
    for name, value in fields.items():
        if name not in known:
            raise TypeError(f"{type(struct).__name__} has no field '{name}'")
        if known[name] is ctypes.c_char_p and value is not None:
            value = _bytes(value)
        setattr(struct, name, value)


class _Owner:
    """Something with a handle. What the library uses through it stays until it is freed."""

    def __init__(self, handle, free, keep):
        self._handle, self._keep = handle, keep
        self._finalizer = weakref.finalize(self, _Owner._free, free, handle, keep)

    @staticmethod
    def _free(free, handle, keep):
        free(handle)
        del keep[:]

    def _get(self):
        if not self._finalizer.alive:
            raise ValueError(f"the {type(self).__name__.lower()} is closed")
        return self._handle

    @property
    def handle(self):
        """For the functions of `library`. It stays this object's, which frees it."""
        return self._get()

    def close(self):
        """Free it now. A job that has not ended is cancelled and waited for."""
        self._finalizer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Picture:
    """`pixels`: bytes [height, width, 4], RGBA, from the top."""

    def __init__(self, width, height, pixels):
        self.width, self.height, self.pixels = width, height, pixels

    def save(self, path, text=None):
        """Write a PNG, with a dictionary of texts in it."""
        pairs = [_bytes(word) for pair in (text or {}).items() for word in pair]
        words = (ctypes.c_char_p * len(pairs))(*pairs)
        image = _image(self.width, self.height, ctypes.cast(self.pixels, ctypes.c_void_p), len(self.pixels))
        _check(_library.softdimo_image_write_png(ctypes.byref(image), _bytes(path), words if pairs else None, len(pairs) // 2))

    def __eq__(self, other):
        return isinstance(other, Picture) and (self.width, self.pixels) == (other.width, other.pixels)

    __hash__ = None


def _image(width, height, data, capacity, **fields):
    image = _initialised(_native.softdimo_image)
    image.width, image.height, image.data, image.capacity = width, height, data, capacity
    _assign(image, fields)
    return image


class Reward(_Owner):
    """What an optimisation climbs."""

    def __init__(self, handle, keep=(), state=None):
        super().__init__(handle, _library.softdimo_reward_free, list(keep))
        self._state = state

    @staticmethod
    def _made(function, *arguments, **more):
        handle = ctypes.POINTER(_native.softdimo_reward)()
        _check(function(*arguments, ctypes.byref(handle)))
        return Reward(handle, **more)

    @staticmethod
    def color(r, g, b):
        """The mean over the picture of r·R + g·G + b·B."""
        return Reward._made(_library.softdimo_reward_color, r, g, b, None, 0)

    @staticmethod
    def prior(seed=0):
        """Staying what the label or prompt says, by the model's own teacher."""
        return Reward._made(_library.softdimo_reward_prior, seed)

    @staticmethod
    def closeness():
        """Staying near the start."""
        return Reward._made(_library.softdimo_reward_closeness)

    @staticmethod
    def target(picture):
        """Looking like a Picture of the model's size."""
        data = ctypes.cast(picture.pixels, ctypes.c_void_p)
        image = _image(picture.width, picture.height, data, len(picture.pixels))
        return Reward._made(_library.softdimo_reward_target, ctypes.byref(image), None, 0)

    @staticmethod
    def open(path):
        """The network of a reward file."""
        return Reward._made(_library.softdimo_reward_open, _bytes(path), None)

    @staticmethod
    def from_function(function):
        """The host's own: function(pixels, scores, gradient, (batch, 3, height, width)) fills scores [batch] and gradient, of the
        pictures' shape, both zeros at first; all three are memoryviews of floats, valid during the call (numpy.asarray takes
        them). False ends the optimisation like a cancel. Called inside Job.poll, Job.wait and Engine.generate, on that thread;
        what it raises cancels the job, and is raised there."""
        state = _Raised()

        def call(_, pixels, batch, width, height, scores, gradient):
            try:
                shape = (batch, 3, height, width)
                views = [_floats(pixels, shape), _floats(scores, (batch,)), _floats(gradient, shape)]
                return _native.SOFTDIMO_STOP if function(*views, shape) is False else _native.SOFTDIMO_CONTINUE
            except BaseException as why:  # nothing may pass through the library
                state.why = why
                return _native.SOFTDIMO_STOP

        callback = _native.softdimo_reward_fn(call)
        return Reward._made(_library.softdimo_reward_from_callback, callback, None, keep=[callback], state=state)

    @property
    def info(self):
        """What it is, as a dictionary."""
        return json.loads(_text(_library.softdimo_reward_info, self._get()))


class _Raised:
    """What a reward has raised."""

    why = None


def _floats(pointer, shape):
    count = 1
    for size in shape:
        count *= size
    array = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float * count)).contents
    return memoryview(array).cast("B").cast("f", shape)


_STATES = {
    _native.SOFTDIMO_JOB_QUEUED: "queued",
    _native.SOFTDIMO_JOB_RUNNING: "running",
    _native.SOFTDIMO_JOB_DONE: "done",
    _native.SOFTDIMO_JOB_FAILED: "failed",
    _native.SOFTDIMO_JOB_CANCELLED: "cancelled",
}


class Job(_Owner):
    """A request under way. It advances on the engine's own threads."""

    def __init__(self, handle, engine, batch, keep, states):
        super().__init__(handle, _library.softdimo_job_free, keep)
        self.width, self.height, self.batch = engine.width, engine.height, batch
        self._states = states

    def _raise(self):
        for state in self._states:
            why, state.why = state.why, None
            if why is not None:
                raise why

    def poll(self):
        """"queued", "running", "done", "failed" or "cancelled", without waiting; runs the reward that the job waits for."""
        state = ctypes.c_uint32()
        status = _library.softdimo_job_poll(self._get(), ctypes.byref(state))
        self._raise()
        _check(status)
        return _STATES.get(state.value, "running")

    def wait(self, seconds=None):
        """Wait for the end; False if so many seconds are over first. Raises what went wrong."""
        remaining = None if seconds is None else int(seconds * 1000)
        while True:
            # In pieces, so that Python sees signals.
            piece = 100 if remaining is None else min(remaining, 100)
            status = _library.softdimo_job_wait(self._get(), piece)
            self._raise()
            if status != _native.SOFTDIMO_ERR_TIMEOUT:
                _check(status)
                return True
            if remaining is not None:
                remaining -= piece
                if remaining <= 0:
                    return False

    @property
    def progress(self):
        """Steps done and steps in all, which is 0 before the job has started."""
        progress = _native.softdimo_progress(struct_size=ctypes.sizeof(_native.softdimo_progress))
        _check(_library.softdimo_job_progress(self._get(), ctypes.byref(progress)))
        return progress.step, progress.total

    def cancel(self):
        """Ask it to end; returns at once."""
        _check(_library.softdimo_job_cancel(self._get()))

    @property
    def error(self):
        """Why it failed or was cancelled; "" otherwise."""
        return _text(_library.softdimo_job_error, self._get())

    @property
    def report(self):
        """What it did, as a dictionary: all that is needed to make the picture again."""
        return json.loads(_text(_library.softdimo_job_report, self._get()))

    def picture(self, index=0):
        """Picture `index`."""
        pixels = bytearray(self.width * self.height * 4)
        self.read_into(pixels, index)
        return Picture(self.width, self.height, bytes(pixels))

    def pictures(self):
        """All of them."""
        return [self.picture(index) for index in range(self.batch)]

    def read_into(self, buffer, index=0, **fields):
        """Copy picture `index` into a writable buffer, such as a bytearray or a numpy array; `fields` are those of softdimo_image:
        format, origin, stride."""
        with memoryview(buffer) as view:
            memory = (ctypes.c_uint8 * view.nbytes).from_buffer(view)
            image = _image(self.width, self.height, ctypes.cast(memory, ctypes.c_void_p), view.nbytes, **fields)
            _check(_library.softdimo_job_image(self._get(), index, ctypes.byref(image)))
            del memory


class Engine(_Owner):
    """An opened model. May be used from any thread."""

    def __init__(self, handle, keep):
        super().__init__(handle, _library.softdimo_engine_free, keep)
        layout = _native.softdimo_layout(struct_size=ctypes.sizeof(_native.softdimo_layout))
        _check(_library.softdimo_engine_layout(handle, ctypes.byref(layout)))
        self.width, self.height = layout.width, layout.height

    def submit(self, label=None, *, rewards=(), edit=None, **fields):
        """Queue a request and return its Job at once. `rewards`: pairs of a Reward and its weight. `edit`: a Picture to start
        from, with edit_keep."""
        request = _initialised(_native.softdimo_request)
        _assign(request, fields if label is None else {"label": label, **fields})
        keep, states = list(self._keep), []
        if rewards:
            terms = (_native.softdimo_reward_term * len(rewards))()
            for term, (reward, weight) in zip(terms, rewards):
                term.reward, term.weight = reward._get(), weight
                keep.extend(reward._keep)
                states.extend([reward._state] if reward._state else [])
            request.rewards, request.reward_count = terms, len(rewards)
        if edit is not None:
            data = ctypes.cast(edit.pixels, ctypes.c_void_p)
            request.edit_image = ctypes.pointer(_image(edit.width, edit.height, data, len(edit.pixels)))
        handle = ctypes.POINTER(_native.softdimo_job)()
        _check(_library.softdimo_submit(self._get(), ctypes.byref(request), ctypes.byref(handle)))
        return Job(handle, self, request.batch, keep, states)

    def generate(self, label=None, **fields):
        """Make a picture and wait for it; with `batch`, a list of pictures."""
        with self.submit(label, **fields) as job:
            job.wait()
            return job.pictures() if "batch" in fields else job.picture()

    async def generate_async(self, label=None, *, interval=0.005, **fields):
        """The same without waiting: polls between other tasks, every `interval` seconds. Cancelling it cancels the job."""
        with self.submit(label, **fields) as job:
            while job.poll() not in ("done", "failed", "cancelled"):
                await asyncio.sleep(interval)
            job.wait(0)
            return job.pictures() if "batch" in fields else job.picture()

    @property
    def labels(self):
        """The names of the model's labels."""
        count, name, labels = ctypes.c_uint32(), ctypes.c_char_p(), []
        _check(_library.softdimo_engine_label_count(self._get(), ctypes.byref(count)))
        for index in range(count.value):
            _check(_library.softdimo_engine_label(self._get(), index, ctypes.byref(name)))
            labels.append(name.value.decode())
        return labels

    @property
    def info(self):
        """The model, its labels and defaults, as a dictionary."""
        return json.loads(_text(_library.softdimo_engine_info, self._get()))

    def warmup(self, batch=1):
        """Prepare what the first job needs, so that it is as fast as the next. Waits."""
        _check(_library.softdimo_engine_warmup(self._get(), batch))

    def trim(self):
        """Give back what can be prepared again."""
        _check(_library.softdimo_engine_trim(self._get()))


def open(model, *, log=None, **options):
    """Open a model: a path, or its bytes. `log(level, text)` receives messages, inside calls of the engine and its jobs."""
    native = _initialised(_native.softdimo_engine_options)
    _assign(native, options)
    keep = []
    if log is not None:

        def call(_, level, message):
            try:
                log(level, message.decode())
                return _native.SOFTDIMO_CONTINUE
            except Exception:  # nothing may pass through the library
                return _native.SOFTDIMO_STOP

        native.log = _native.softdimo_log_fn(call)
        keep.append(native.log)
    handle = ctypes.POINTER(_native.softdimo_engine)()
    if isinstance(model, (bytes, bytearray, memoryview)):
        model = bytes(model)
        keep.append(model)
        data = ctypes.cast(model, ctypes.c_void_p)
        none = ctypes.cast(None, _native.softdimo_release_fn)
        status = _library.softdimo_engine_open_memory(data, len(model), none, None, ctypes.byref(native), ctypes.byref(handle))
    else:
        status = _library.softdimo_engine_open(_bytes(model), ctypes.byref(native), ctypes.byref(handle))
    _check(status)
    return Engine(handle, keep)
