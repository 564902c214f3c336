//! Checked reading and writing of C arguments. Every pointer is NULL or valid as the header documents; the
//! `unsafe fn`s below pass that promise on.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{softdimo_image, softdimo_release_fn};
use softdimo::WeightsMode;
use softdimo::checkpoint::Mapping;
use softdimo::image::{ImageView, ImageViewMut, Origin, PixelFormat, read_planes};
use softdimo::shortage;
use softdimo::{Error, Layout, Result, RewardAnswer, RewardImage};

/// Largest text or struct a caller may hand in.
const TEXT_LIMIT: usize = 1 << 20;
const STRUCT_LIMIT: usize = 1 << 16;

/// Structs that start with `uint32_t struct_size`; the size in version 1 of the ABI is the smallest legal.
pub(super) trait Versioned: Copy {
    const V1_SIZE: usize;
    fn set_size(&mut self, size: u32);
}

macro_rules! versioned {
    ($($t:ty = $v1:literal),* $(,)?) => {
        $(impl Versioned for $t {
            const V1_SIZE: usize = if cfg!(target_pointer_width = "64") { $v1 } else { size_of::<$t>() };
            fn set_size(&mut self, size: u32) {
                self.struct_size = size;
            }
        }
        const _: () = assert!(size_of::<$t>() >= <$t>::V1_SIZE, "structs only grow");)*
    };
}

versioned! {
    super::softdimo_engine_options = 96,
    super::softdimo_request = 280,
    softdimo_image = 40,
    super::softdimo_picture_style = 80,
    super::softdimo_memory = 32,
    super::softdimo_progress = 16,
    super::softdimo_layout = 40,
    super::softdimo_reward_options = 64,
}

pub(super) fn required<T>(pointer: *mut T, what: &'static str) -> Result<()> {
    if pointer.is_null() { Err(Error::NullArgument { what }) } else { Ok(()) }
}

/// Write an out parameter.
pub(super) unsafe fn out<T>(pointer: *mut T, what: &'static str, value: T) -> Result<()> {
    required(pointer, what)?;
    // SAFETY: non-NULL, so valid for writing a T.
    unsafe { pointer.write_unaligned(value) };
    Ok(())
}

/// Fill a caller's struct with defaults, as far as the caller's version of it goes.
pub(super) unsafe fn init_struct<T: Versioned>(
    pointer: *mut T,
    struct_size: u32,
    what: &'static str,
    mut value: T,
) -> Result<()> {
    required(pointer, what)?;
    let size = struct_size as usize;
    if !(T::V1_SIZE..=STRUCT_LIMIT).contains(&size) {
        return Err(Error::StructSize { what, minimum: T::V1_SIZE, found: size });
    }
    value.set_size(struct_size);
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's struct has `struct_size` bytes; what this version does not know becomes zero.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), pointer.cast::<u8>(), known);
        pointer.cast::<u8>().add(known).write_bytes(0, size - known);
    }
    Ok(())
}

/// Borrow a handle.
pub(super) unsafe fn handle<'a, T>(pointer: *const T, what: &'static str) -> Result<&'a T> {
    required(pointer.cast_mut(), what)?;
    // SAFETY: non-NULL, so a live handle made by this library.
    Ok(unsafe { &*pointer })
}

/// The declared size of a versioned struct, checked.
pub(super) unsafe fn declared_size<T: Versioned>(pointer: *const T, what: &'static str) -> Result<usize> {
    required(pointer.cast_mut(), what)?;
    // SAFETY: non-NULL, and every versioned struct starts with its size.
    let size = unsafe { pointer.cast::<u32>().read_unaligned() } as usize;
    if size < T::V1_SIZE || size > STRUCT_LIMIT {
        return Err(Error::StructSize { what, minimum: T::V1_SIZE, found: size });
    }
    Ok(size)
}

/// Read a versioned struct: fields an older caller does not have read as zero, and what a newer caller has
/// beyond this version must be zero.
pub(super) unsafe fn read_struct<T: Versioned>(pointer: *const T, what: &'static str) -> Result<T> {
    // SAFETY: the struct is `size` bytes long by its own declaration; T is plain old data.
    unsafe {
        let size = declared_size(pointer, what)?;
        let mut value = std::mem::MaybeUninit::<T>::zeroed();
        let known = size.min(size_of::<T>());
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known);
        let tail = std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known);
        if tail.iter().any(|&b| b != 0) {
            let found = format!("data in the {} bytes after them", tail.len());
            return Err(Error::invalid(
                what,
                format!("zeros after the {known} bytes this version knows"),
                found,
            ));
        }
        Ok(value.assume_init())
    }
}

/// Fill a caller's versioned struct as far as its version goes; fields of a newer one become zero.
pub(super) unsafe fn write_struct<T: Versioned>(
    pointer: *mut T,
    what: &'static str,
    mut value: T,
) -> Result<()> {
    // SAFETY: as in `read_struct`.
    unsafe {
        let size = declared_size(pointer, what)?;
        value.set_size(size as u32);
        let known = size.min(size_of::<T>());
        std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), pointer.cast::<u8>(), known);
        std::ptr::write_bytes(pointer.cast::<u8>().add(known), 0, size - known);
    }
    Ok(())
}

/// A required UTF-8 string.
pub(super) unsafe fn cstr<'a>(pointer: *const c_char, what: &'static str) -> Result<&'a str> {
    // SAFETY: passed on.
    unsafe { optional_cstr(pointer, what) }?.ok_or(Error::NullArgument { what })
}

/// A UTF-8 string, or `None` for NULL.
pub(super) unsafe fn optional_cstr<'a>(
    pointer: *const c_char,
    what: &'static str,
) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: non-NULL, so NUL-terminated.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    if bytes.len() > TEXT_LIMIT {
        return Err(Error::invalid(what, format!("at most {TEXT_LIMIT} bytes"), bytes.len()));
    }
    std::str::from_utf8(bytes)
        .map(Some)
        .map_err(|e| Error::invalid(what, "UTF-8 text", format!("an invalid byte at {}", e.valid_up_to())))
}

/// An array with its length: `None` for NULL with length 0; one without the other is an error.
pub(super) unsafe fn array<'a, T>(
    pointer: *const T,
    length: u64,
    what: &'static str,
) -> Result<Option<&'a [T]>> {
    match (pointer.is_null(), length) {
        (true, 0) => Ok(None),
        (true, n) => Err(Error::invalid(what, format!("{n} elements"), "NULL")),
        (false, 0) => Err(Error::invalid(what, "a length above 0 for a non-NULL pointer", 0)),
        (false, n) if n > (isize::MAX as usize / size_of::<T>().max(1)) as u64 => {
            Err(Error::invalid(what, "a length that fits the address space", n))
        }
        _ if !(pointer as usize).is_multiple_of(align_of::<T>()) => {
            Err(Error::invalid(what, format!("a pointer aligned to {}", align_of::<T>()), "a misaligned one"))
        }
        // SAFETY: non-NULL, aligned, and `length` elements long as the caller says.
        (false, n) => Ok(Some(unsafe { std::slice::from_raw_parts(pointer, n as usize) })),
    }
}

/// A number of bytes in memory.
pub(super) fn size(bytes: u64, what: &str) -> Result<usize> {
    let fits = usize::try_from(bytes).ok().filter(|&n| n <= isize::MAX as usize);
    fits.ok_or_else(|| Error::invalid(what, "a size that fits the address space", bytes))
}

/// Reserved fields must be zero.
pub(super) fn zero(words: &[u32], what: &str) -> Result<()> {
    match words.iter().find(|&&w| w != 0) {
        Some(w) => Err(Error::invalid(what, "0", w)),
        None => Ok(()),
    }
}

/// -1 means the model's default; all else is checked with the request.
pub(super) fn or_default(value: f32) -> Option<f32> {
    if value == -1.0 { None } else { Some(value) }
}

/// Text convention: see `softdimo_engine_info`.
pub(super) unsafe fn write_text(
    text: &str,
    buffer: *mut c_char,
    capacity: u64,
    needed: *mut u64,
) -> Result<()> {
    let bytes = text.bytes().filter(|&b| b != 0).chain([0]).map(|b| b as c_char);
    let bytes = shortage::collected("a text", text.len() + 1, bytes)?;
    // SAFETY: passed on.
    unsafe { write_array(&bytes, buffer, capacity, needed, "buffer") }
}

/// Array convention: see `softdimo_job_image_f32`.
pub(super) unsafe fn write_array<T: Copy>(
    values: &[T],
    buffer: *mut T,
    capacity: u64,
    needed: *mut u64,
    what: &'static str,
) -> Result<()> {
    if buffer.is_null() && (capacity > 0 || needed.is_null()) {
        return Err(Error::NullArgument { what });
    }
    if !needed.is_null() {
        // SAFETY: non-NULL, so valid for writing.
        unsafe { needed.write_unaligned(values.len() as u64) };
    }
    if capacity == 0 && !needed.is_null() {
        return Ok(());
    }
    if capacity < values.len() as u64 {
        return Err(Error::BufferTooSmall {
            what: what.into(),
            expected: std::mem::size_of_val(values),
            found: capacity as usize * size_of::<T>(),
        });
    }
    // SAFETY: the caller's buffer holds `capacity` elements, at any address: they are copied as bytes.
    unsafe {
        let bytes = std::mem::size_of_val(values);
        std::ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), buffer.cast::<u8>(), bytes);
    }
    Ok(())
}

/// The image views of an array, whose element distance is the first one's `struct_size`.
pub(super) unsafe fn images(first: *mut softdimo_image, count: u32) -> Result<Vec<softdimo_image>> {
    // SAFETY: as documented for `softdimo_generate`.
    unsafe {
        let distance = declared_size(first, "softdimo_image")?;
        let views = (0..count as usize).map(|i| {
            let at = first.cast::<u8>().add(i * distance).cast::<softdimo_image>();
            let found = declared_size(at, "softdimo_image")?;
            if found != distance {
                return Err(Error::invalid("images[..].struct_size", format!("{distance} in all"), found));
            }
            read_struct(at, "softdimo_image")
        });
        views.collect()
    }
}

/// Bytes at `image.data`, checked.
fn capacity(image: &softdimo_image) -> Result<usize> {
    required(image.data, "image.data")?;
    match size(image.capacity, "image.capacity")? {
        0 => Err(Error::BufferTooSmall { what: "image.capacity".into(), expected: 1, found: 0 }),
        n => Ok(n),
    }
}

/// The caller's pixels, for writing.
pub(super) unsafe fn view<'a>(image: &softdimo_image) -> Result<ImageViewMut<'a>> {
    let capacity = capacity(image)?;
    Ok(ImageViewMut {
        width: image.width,
        height: image.height,
        stride: image.stride as usize,
        format: PixelFormat::try_from(image.format)?,
        origin: Origin::try_from(image.origin)?,
        // SAFETY: the caller owns `capacity` bytes at `data` for the duration of the call.
        data: unsafe { std::slice::from_raw_parts_mut(image.data.cast(), capacity) },
    })
}

/// The caller's picture [channels, H, W] in [0, 1], if `check` has nothing against its size.
pub(super) unsafe fn picture(
    image: *const softdimo_image,
    channels: usize,
    check: impl FnOnce(&softdimo_image) -> Result<()>,
) -> Result<Vec<f32>> {
    // SAFETY: NULL or an image view, as documented; nothing is written.
    unsafe {
        let image = images(image.cast_mut(), 1)?.remove(0);
        let view = read_view(&image)?;
        check(&image)?;
        read_planes(&view, channels)
    }
}

/// Refuse a picture of another size than the model's, also where it has as many pixels.
pub(super) fn model_size(what: &str, found: [u32; 2], layout: &Layout) -> Result<()> {
    if found.map(|side| side as usize) == [layout.width, layout.height] {
        return Ok(());
    }
    let expected = format!("a picture of the model's size, {}x{}", layout.width, layout.height);
    Err(Error::invalid(what, expected, format!("{}x{}", found[0], found[1])))
}

/// The caller's pixels, for reading.
pub(super) unsafe fn read_view<'a>(image: &softdimo_image) -> Result<ImageView<'a>> {
    let capacity = capacity(image)?;
    Ok(ImageView {
        width: image.width,
        height: image.height,
        stride: image.stride as usize,
        format: PixelFormat::try_from(image.format)?,
        origin: Origin::try_from(image.origin)?,
        // SAFETY: as in `view`, and nothing is written.
        data: unsafe { std::slice::from_raw_parts(image.data.cast_const().cast(), capacity) },
    })
}

/// `SOFTDIMO_WEIGHTS_*`.
pub(super) fn weights_mode(mode: u32) -> Result<WeightsMode> {
    match mode {
        super::SOFTDIMO_WEIGHTS_MAP => Ok(WeightsMode::Map),
        super::SOFTDIMO_WEIGHTS_READ => Ok(WeightsMode::Read),
        super::SOFTDIMO_WEIGHTS_MAP_GUARDED => Ok(WeightsMode::MapGuarded),
        other => Err(Error::invalid("options.weights_mode", "0 (map), 1 (read) or 2 (guarded)", other)),
    }
}

/// A model file in the caller's memory, and what arms its release once opening has succeeded.
pub(super) unsafe fn foreign(
    data: *const c_void,
    length: u64,
    release: softdimo_release_fn,
    user_data: *mut c_void,
) -> Result<(Arc<Mapping>, Arc<Release>)> {
    required(data.cast_mut(), "data")?;
    let size = size(length, "length")?;
    let release = Arc::new(Release { release, user_data, data, length, state: AtomicU8::new(OPENING) });
    let at_end = release.clone();
    // SAFETY: the caller owns `length` bytes that stay unchanged until they are released, as documented.
    let mapping = unsafe { Mapping::foreign(data.cast(), size, Some(Box::new(move || at_end.unread()))) };
    Ok((Arc::new(mapping), release))
}

/// States of a [`Release`]: opening goes on, it has succeeded, nothing reads the bytes any more.
const OPENING: u8 = 0;
const OPENED: u8 = 1;
const UNREAD: u8 = 2;

/// The release callback of bytes in memory: called once opening has succeeded and nothing reads them, whichever is later. A file
/// in int4 is read no more before it is open.
pub(super) struct Release {
    release: softdimo_release_fn,
    user_data: *mut c_void,
    data: *const c_void,
    length: u64,
    state: AtomicU8,
}

// SAFETY: the header says that the callback may run on another thread.
unsafe impl Send for Release {}
// SAFETY: it is read, and the callback called once.
unsafe impl Sync for Release {}

impl Release {
    /// Opening has succeeded.
    pub fn arm(&self) {
        if self.state.swap(OPENED, Ordering::SeqCst) == UNREAD {
            self.call();
        }
    }

    fn unread(&self) {
        if self.state.swap(UNREAD, Ordering::SeqCst) == OPENED {
            self.call();
        }
    }

    fn call(&self) {
        if let Some(release) = self.release {
            // SAFETY: the caller promised a callback of this signature.
            unsafe { release(self.user_data, self.data, self.length) };
        }
    }
}

/// A C callback as a reward.
pub(super) struct HostReward {
    pub callback: unsafe extern "C" fn(*mut c_void, *const f32, u32, u32, u32, *mut f32, *mut f32) -> i32,
    pub user_data: *mut c_void,
}

// SAFETY: it is called only on the thread that waits for a job, one call at a time; the header says so.
unsafe impl Send for HostReward {}

impl HostReward {
    pub fn call(&self, image: &RewardImage, answer: &mut RewardAnswer) -> std::ops::ControlFlow<()> {
        // SAFETY: the caller promised a callback of this signature; the buffers have the documented sizes.
        let status = unsafe {
            (self.callback)(
                self.user_data,
                image.pixels.as_ptr(),
                image.batch as u32,
                image.width as u32,
                image.height as u32,
                answer.scores.as_mut_ptr(),
                answer.gradient.as_mut_ptr(),
            )
        };
        match status {
            super::SOFTDIMO_CONTINUE => std::ops::ControlFlow::Continue(()),
            _ => std::ops::ControlFlow::Break(()),
        }
    }
}
