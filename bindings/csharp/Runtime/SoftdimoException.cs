using System;

namespace Softdimo
{
    /// <summary>A call failed. The message names the thing, what was expected and what was found.</summary>
    /// <remarks>There is a class of its own for every status: SoftdimoUnknownLabelException and so on.</remarks>
    public partial class SoftdimoException : Exception
    {
        /// <summary>SOFTDIMO_ERR_*</summary>
        public int Status { get; private set; }

        /// <summary>From a status and the library's words.</summary>
        internal SoftdimoException(int status, string message) : base(message)
        {
            Status = status;
        }

        /// <summary>The name of the status, "SOFTDIMO_ERR_IO".</summary>
        public string StatusName
        {
            get { return Text.Read(Native.softdimo_status_name(Status)); }
        }

        /// <summary>Throw what the library says of this thread's last call, unless its status is OK.</summary>
        internal static void Check(int status)
        {
            if (status != Native.SOFTDIMO_OK)
            {
                throw Of(status, Text.LastError());
            }
        }
    }
}
