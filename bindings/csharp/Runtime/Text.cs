using System;
using System.Runtime.InteropServices;
using System.Text;

namespace Softdimo
{
    /// <summary>Strings as the library has them: UTF-8, with a NUL at the end.</summary>
    internal static class Text
    {
        // Bytes that are no UTF-8 of anything are refused, not replaced.
        private static readonly UTF8Encoding Encoding = new UTF8Encoding(false, true);

        internal delegate int Call(byte[] buffer, ulong capacity, out ulong needed);

        /// <summary>Bytes with their NUL; null stays null.</summary>
        internal static byte[] Bytes(string text)
        {
            if (text == null)
            {
                return null;
            }
            if (text.IndexOf('\0') >= 0)
            {
                throw new ArgumentException("a text has a NUL inside: " + text.Replace("\0", "\\0"));
            }
            var bytes = new byte[Encoding.GetByteCount(text) + 1];
            Encoding.GetBytes(text, 0, text.Length, bytes, 0);
            return bytes;
        }

        /// <summary>A text of the library's that lives long enough.</summary>
        internal static string Read(IntPtr text)
        {
            var length = 0;
            while (Marshal.ReadByte(text, length) != 0)
            {
                length++;
            }
            var bytes = new byte[length];
            Marshal.Copy(text, bytes, 0, length);
            return System.Text.Encoding.UTF8.GetString(bytes);
        }

        private static string Read(byte[] bytes, ulong withNul)
        {
            return System.Text.Encoding.UTF8.GetString(bytes, 0, checked((int)withNul) - 1);
        }

        internal static string LastError()
        {
            var buffer = new byte[Native.softdimo_last_error(null, 0)];
            var needed = Native.softdimo_last_error(buffer, (ulong)buffer.LongLength);
            return Read(buffer, needed);
        }

        /// <summary>The text that a call copies by the header's text convention.</summary>
        internal static string Of(Call call)
        {
            ulong needed;
            SoftdimoException.Check(call(null, 0, out needed));
            var buffer = new byte[needed];
            SoftdimoException.Check(call(buffer, needed, out needed));
            return Read(buffer, needed);
        }
    }
}
