//! tmp
use crate::error::Result;
pub enum PixelFormat {
    A,
}
pub enum Origin {
    A,
}
impl PixelFormat {
    pub fn from_code(_: u32) -> Result<PixelFormat> {
        Ok(PixelFormat::A)
    }
}
impl Origin {
    pub fn from_code(_: u32) -> Result<Origin> {
        Ok(Origin::A)
    }
}
pub struct ImageViewMut<'a> {
    pub width: usize,
    pub height: usize,
    pub stride: usize,
    pub format: PixelFormat,
    pub origin: Origin,
    pub data: &'a mut [u8],
}
impl ImageViewMut<'_> {
    pub fn validate(&self, _: usize, _: usize) -> Result<()> {
        Ok(())
    }
}
pub fn write_f32_chw(_: &[f32], _: &mut ImageViewMut) -> Result<()> {
    Ok(())
}
pub fn write_png(_: &str, _: &ImageViewMut, _: &[(String, String)]) -> Result<()> {
    Ok(())
}
