-- bindings/love/softdimo.lua in LuaJIT alone: api.lua ABI.txt MODEL PIXELS
-- The layout of every struct, errors, a picture (its pixels are written to PIXELS), handles under a collector that runs
-- all the time, cancelling.

local ffi = require "ffi"
local softdimo = require "softdimo"
local abi, model, pixels_file = ...

local checked = 0
for line in io.lines(abi) do
    local kind, name, what = line:match("^(%S+) ([^=]+)=(.*)$")
    local found, expected
    if kind == "constant" then
        found, expected = tonumber(softdimo.constants[name:gsub("^SOFTDIMO_", "")]), tonumber(what)
    elseif kind == "struct" then
        found, expected = ffi.sizeof(name), tonumber(what)
    elseif kind == "field" then
        local struct, field = name:match("^(.*)%.(.*)$")
        -- Numbers read from a struct are Lua's own: sizes show in the places of what follows, and in the struct's.
        found, expected = ffi.offsetof(struct, field), tonumber(what:match("^%s*(%d+)"))
    elseif kind == "function" then
        found, expected = softdimo.lib[name] ~= nil, true
    else
        found, expected = ffi.typeof(name .. " *") ~= nil, true
    end
    assert(found == expected, ("%s: expected %s, found %s"):format(name, tostring(expected), tostring(found)))
    checked = checked + 1
end
assert(checked > 150, checked)

local function fails(words, call, ...)
    local fine, why = pcall(call, ...)
    assert(not fine and tostring(why):find(words, 1, true), ("expected '%s', found %s"):format(words, tostring(why)))
end

fails("'/nowhere' not found (SOFTDIMO_ERR_NOT_FOUND)", softdimo.open, "/nowhere")
fails("field 'thread' of the engine's options", softdimo.open, model, { thread = 1 })
fails("threads: expected", softdimo.open, model, { threads = 257 })
fails("callback", softdimo.open, model, { log = print })

local engine = softdimo.open(model, { threads = 1, niceness = 10, provider = "cpu" })
assert(engine.width == 32 and engine.height == 32)
assert(#engine:labels() == 181 and engine:labels()[1] == "grinning face")
assert(engine:info():find("emoji%-32"))
assert(softdimo.version():find("^%d+%.%d+"))
fails("label 'rad apple'", engine.submit, engine, { label = "rad apple" })
fails("field 'labels' of the request", engine.submit, engine, { labels = "red apple" })
fails("field 'seed' of the request", engine.submit, engine, { seed = "seven" })
fails("callback", engine.submit, engine, { progress = print })

local job = engine:submit { label = "red apple", seed = 7 }
local states = {}
repeat
    local state = job:poll()
    states[state] = true
    assert(state == "queued" or state == "running" or state == "done", state)
until state == "done"
assert(job:wait() and job:error() == "" and job:report():find('"red apple"'))
assert(select(2, job:progress()) > 0)
local pixels = ffi.new("uint8_t[?]", 32 * 32 * 4)
fails("expected at least 4096 bytes, found 100", job.read, job, pixels, 100)
fails("SOFTDIMO_ERR_INVALID_ARGUMENT", job.read, job, pixels, 4096, 1)
job:read(pixels, 4096)
local file = assert(io.open(pixels_file, "wb"))
file:write(ffi.string(pixels, 4096))
file:close()

-- The same from a batch, with a seed that no double holds beside it.
local batch = engine:submit { label = "red apple", seed = 6, batch = 2 }
assert(batch:wait(60))
local again = ffi.new("uint8_t[?]", 4096)
batch:read(again, 4096, 1)
assert(ffi.string(again, 4096) == ffi.string(pixels, 4096))
local large = engine:submit { label = "red apple", seed = 0xfffffffffffffff1ULL }
assert(large:wait())
assert(large:report():find("18446744073709551601", 1, true), large:report())

-- A teacher's job takes long enough to be cancelled; one that is waited for too briefly goes on.
local long = engine:submit { label = "dog", steps = 2000 }
assert(long:wait(0.001) == false)
fails("SOFTDIMO_ERR_NOT_READY", long.read, long, pixels, 4096)
long:cancel()
fails("SOFTDIMO_ERR_CANCELLED", long.wait, long)
assert(long:poll() == "cancelled" and long:error() ~= "")
long:free()
long:free()
fails("the job has been freed", long.poll, long)

-- What has no method is called by the handles.
assert(softdimo.lib.softdimo_engine_pause(engine.handle) == softdimo.constants.OK)
local paused = engine:submit { label = "red apple" }
assert(paused:wait(0.05) == false and paused:poll() == "queued")
assert(softdimo.lib.softdimo_engine_resume(engine.handle) == softdimo.constants.OK)
assert(paused:wait(60))

-- The bytes of a model, as love.filesystem.newFileData holds them.
local bytes = assert(io.open(model, "rb")):read("*a")
local function data_of()
    local memory = ffi.new("uint8_t[?]", #bytes, bytes)
    return { getFFIPointer = function() return memory end, getSize = function() return #bytes end }
end
do
    local from_memory = softdimo.openData(data_of(), { threads = 1 })
    local job = from_memory:submit { label = "red apple", seed = 7 }
    from_memory = nil
    collectgarbage()
    collectgarbage()
    assert(job:wait())
    job:read(again, 4096)
    assert(ffi.string(again, 4096) == ffi.string(pixels, 4096))
end
bytes = nil

-- Engines, jobs and their data are collected at any time, in any order, with jobs under way.
for i = 1, 40 do
    local other = i % 8 == 1 and softdimo.open(model, { threads = 1 }) or engine
    for k = 1, 3 do
        other:submit { label = "rocket", seed = i * 10 + k }
    end
    collectgarbage(i % 2 == 0 and "step" or "collect")
end
collectgarbage()
engine:free()
engine:free()
fails("the engine has been freed", engine.info, engine)
print("ok")
