-- A game that paints its sprites while it runs: one cell of the grid after the other gets a new one, and those at the
-- bottom move about. Space stops and goes on; the numbers say how long frames take with a job under way and without.
--
-- love GAME [--model FILE] [--shot FILE.png CELLS]   ends after so many cells, with a screenshot
-- love GAME [--model FILE] [--measure RUNS SECONDS]  prints the worst frame of runs without a job and with jobs

local softdimo = require "softdimo"

local SCALE, COLUMNS, ROWS, FRAME = 2, 9, 5, 1 / 60
local LABELS = { "red apple", "rocket", "dog", "cat", "skull", "red heart", "crescent moon", "sun", "mushroom" }

local engine, job, painting
local cells, movers = {}, {}
local painted, due = 0, 1 -- cells so far, and the next one
local resting = false
local worst = { idle = 0, busy = 0 } -- milliseconds from one frame to the next
local shot, measure

local function option(arguments, name)
    for i, word in ipairs(arguments) do
        if word == name then
            return arguments[i + 1], arguments[i + 2]
        end
    end
end

-- A file that lies beside the game, or in its folder.
local function beside(name)
    for _, folder in ipairs { love.filesystem.getSource(), love.filesystem.getSourceBaseDirectory() } do
        local file = io.open(folder .. "/" .. name, "rb")
        if file then
            file:close()
            return folder .. "/" .. name
        end
    end
    return name
end

function love.load(arguments)
    local model = option(arguments, "--model") or beside("emoji-32.softdimo.safetensors")
    local file, count = option(arguments, "--shot")
    shot = file and { file = file, cells = tonumber(count) }
    local runs, seconds = option(arguments, "--measure")
    measure = runs and { runs = 2 * tonumber(runs), seconds = tonumber(seconds), since = 0, run = 0 }
    resting = measure ~= nil

    love.graphics.setDefaultFilter("nearest", "nearest")
    -- One thread that gives way to the game's.
    engine = softdimo.open(model, { threads = 1, niceness = 10 })
    engine:warmup()
    for i = 1, COLUMNS * ROWS do
        local data = love.image.newImageData(engine.width, engine.height)
        cells[i] = { data = data, image = love.graphics.newImage(data), seed = 0 }
        cells[i].x = 12 + (i - 1) % COLUMNS * (engine.width * SCALE + 6)
        cells[i].y = 30 + math.floor((i - 1) / COLUMNS) * (engine.height * SCALE + 6)
    end
    for i = 1, 12 do
        movers[i] = { cell = cells[i * 3], phase = i, speed = 0.6 + i % 4 * 0.3 }
    end
end

local function submit()
    painting = cells[due]
    painting.label = LABELS[(due + painted) % #LABELS + 1]
    painting.seed = painted + 1
    job = engine:submit { label = painting.label, seed = painting.seed }
    due = due % #cells + 1
end

local function receive()
    job:imageData(0, painting.data)
    painting.image:replacePixels(painting.data)
    job:free()
    job, painted = nil, painted + 1
end

local function poll()
    if not job then
        return resting or submit()
    end
    local state = job:poll()
    if state == "done" then
        receive()
    elseif state == "failed" or state == "cancelled" then
        error(job:error(), 0)
    end
end

-- Runs without and with jobs take turns.
local function measured()
    if love.timer.getTime() - measure.since < measure.seconds then
        return
    end
    if measure.run > 0 then
        local kind = resting and "idle" or "busy"
        print(("frames %s: worst %.2f ms"):format(kind, worst[kind]))
        worst[kind] = 0
    end
    if measure.run == measure.runs then
        return love.event.quit()
    end
    measure.run, measure.since, measure.settle = measure.run + 1, love.timer.getTime(), true
    resting = measure.run % 2 == 1
end

function love.update()
    poll()
    if measure and not (resting and job) then
        measured()
    end
    if shot and painted >= shot.cells and not job then
        resting = true
        for i = 1, math.min(shot.cells, #cells) do
            local cell = cells[i]
            print(("cell %d %d %d %d %s"):format(cell.x, cell.y, SCALE, cell.seed, cell.label))
        end
        local name = shot.file
        love.graphics.captureScreenshot(function(picture)
            local file = assert(io.open(name, "wb"))
            file:write(picture:encode("png"):getString())
            file:close()
            love.event.quit()
        end)
        shot = nil
    end
end

function love.draw()
    love.graphics.clear(0.09, 0.1, 0.13)
    for _, cell in ipairs(cells) do
        love.graphics.draw(cell.image, cell.x, cell.y, 0, SCALE, SCALE)
    end
    local time = love.timer.getTime()
    for _, mover in ipairs(movers) do
        local x = 320 + 290 * math.sin(time * mover.speed + mover.phase)
        local y = 430 + 14 * math.cos(time * 3 + mover.phase)
        love.graphics.draw(mover.cell.image, x, y, time * mover.speed, 1, 1, engine.width / 2, engine.height / 2)
    end
    love.graphics.print(("%d sprites painted, %d fps, worst frame %.1f ms painting, %.1f ms at rest (space)")
        :format(painted, love.timer.getFPS(), worst.busy, worst.idle), 12, 8)
end

function love.keypressed(key)
    if key == "space" then
        resting = not resting
    elseif key == "escape" then
        love.event.quit()
    end
end

-- Jobs end before the library goes.
function love.quit()
    if job then
        job:free()
    end
    engine:free()
end

-- As LÖVE's own, and at the pace of FRAME.
function love.run()
    love.load(love.arg.parseGameArguments(arg))
    local last, next_frame = love.timer.getTime(), love.timer.getTime()
    local frames = 0
    return function()
        love.event.pump()
        for name, a, b, c in love.event.poll() do
            if name == "quit" then
                love.quit()
                return a or 0
            end
            love.handlers[name](a, b, c)
        end
        love.timer.step()
        love.update()
        love.graphics.origin()
        love.draw()
        love.graphics.present()

        next_frame = math.max(next_frame + FRAME, love.timer.getTime())
        love.timer.sleep(next_frame - love.timer.getTime())
        local now = love.timer.getTime()
        local kind = (job or not resting) and "busy" or "idle"
        frames = frames + 1
        -- The first frames of the program and of a run pay for what came before.
        if frames > 10 and not (measure and measure.settle) then
            worst[kind] = math.max(worst[kind], (now - last) * 1000)
        end
        if measure then
            measure.settle = false
        end
        last = now
    end
end
