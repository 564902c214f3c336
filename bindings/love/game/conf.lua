function love.conf(t)
    t.identity = "softdimo-sprites"
    t.version = "11.4"
    t.window.title = "Sprites that repaint themselves"
    t.window.width, t.window.height = 640, 480
    -- Frames are paced by love.run in main.lua: at 60 a second also where there is no screen to wait for.
    t.window.vsync = 0
    t.modules.audio, t.modules.sound, t.modules.physics, t.modules.video = false, false, false, false
end
