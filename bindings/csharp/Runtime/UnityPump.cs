#if UNITY_2020_1_OR_NEWER
using UnityEngine;

namespace Softdimo
{
    /// <summary>Drives JobPump.Main, every frame of a game that runs.</summary>
    internal sealed class UnityPump : MonoBehaviour
    {
        [RuntimeInitializeOnLoadMethod(RuntimeInitializeLoadType.BeforeSceneLoad)]
        private static void Begin()
        {
            var host = new GameObject("Softdimo pump") { hideFlags = HideFlags.HideAndDontSave };
            DontDestroyOnLoad(host);
            host.AddComponent<UnityPump>();
        }

        private void Update()
        {
            JobPump.Main.Update();
        }
    }
}
#endif
