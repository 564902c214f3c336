using System;
using System.Runtime.InteropServices;

namespace Softdimo
{
    /// <summary>How pixels are stored.</summary>
    public enum PixelFormat : uint
    {
        /// <summary>8 bits a channel, R G B A: Unity's TextureFormat.RGBA32.</summary>
        Rgba8 = Native.SOFTDIMO_FORMAT_RGBA8,
        /// <summary>8 bits a channel, R G B: RGB24.</summary>
        Rgb8 = Native.SOFTDIMO_FORMAT_RGB8,
        /// <summary>8 bits a channel, B G R A: BGRA32.</summary>
        Bgra8 = Native.SOFTDIMO_FORMAT_BGRA8,
        /// <summary>A float a channel, R G B A: RGBAFloat.</summary>
        Rgba32F = Native.SOFTDIMO_FORMAT_RGBA32F
    }

    /// <summary>Which row comes first.</summary>
    public enum RowOrder : uint
    {
        /// <summary>The top one.</summary>
        TopDown = Native.SOFTDIMO_ORIGIN_TOP_LEFT,
        /// <summary>The bottom one, as in a Texture2D of Unity.</summary>
        BottomUp = Native.SOFTDIMO_ORIGIN_BOTTOM_LEFT
    }

    internal static class ImageOf
    {
        internal delegate int Call(ref Native.softdimo_image image);

        /// <summary>A call with memory of the host's, which stays where it is during the call.</summary>
        internal static void Memory(IntPtr data, ulong capacity, int width, int height, PixelFormat format, RowOrder rows,
            Call call)
        {
            var image = new Native.softdimo_image();
            SoftdimoException.Check(Native.softdimo_image_init(ref image, (uint)Marshal.SizeOf(image)));
            image.width = checked((uint)width);
            image.height = checked((uint)height);
            image.format = (uint)format;
            image.origin = (uint)rows;
            image.data = data;
            image.capacity = capacity;
            SoftdimoException.Check(call(ref image));
        }

        internal static void Bytes(byte[] pixels, int width, int height, PixelFormat format, RowOrder rows, Call call)
        {
            if (pixels == null)
            {
                throw new ArgumentNullException("pixels");
            }
            var pinned = GCHandle.Alloc(pixels, GCHandleType.Pinned);
            try
            {
                Memory(pinned.AddrOfPinnedObject(), (ulong)pixels.LongLength, width, height, format, rows, call);
            }
            finally
            {
                pinned.Free();
            }
        }
    }
}
