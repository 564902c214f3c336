using Softdimo;
using UnityEngine;

/// <summary>A sprite that repaints itself. Put it on a GameObject with a SpriteRenderer, and the model into StreamingAssets.</summary>
[RequireComponent(typeof(SpriteRenderer))]
public sealed class Painter : MonoBehaviour
{
    public string Model = "emoji-32.softdimo.safetensors";
    public string Label = "red apple";

    private Engine engine;
    private Texture2D texture;

    private async void Start()
    {
        var path = System.IO.Path.Combine(Application.streamingAssetsPath, Model);
        engine = Engine.Open(path, new EngineOptions { Threads = 1, Niceness = 10 });
        texture = new Texture2D(engine.Width, engine.Height, TextureFormat.RGBA32, false) { filterMode = FilterMode.Point };
        var pixels = new byte[engine.Width * engine.Height * 4];
        GetComponent<SpriteRenderer>().sprite =
            Sprite.Create(texture, new Rect(0, 0, engine.Width, engine.Height), new Vector2(0.5f, 0.5f), engine.Width);
        for (ulong seed = 0; this != null; seed++)
        {
            // The pump polls once a frame; nothing waits.
            using (var job = await engine.GenerateAsync(new Request(Label, seed)))
            {
                if (this == null)
                {
                    return;
                }
                job.CopyTo(pixels, 0, PixelFormat.Rgba8, RowOrder.BottomUp);
                texture.LoadRawTextureData(pixels);
                texture.Apply();
            }
        }
    }

    private void OnDestroy()
    {
        // A job under way keeps it running until the pump has ended that.
        engine?.Dispose();
    }
}
