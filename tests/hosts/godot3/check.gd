# Beside the demo, as an autoload: ends it after ten pictures with what is on the screen in the file that the environment names,
# or measures frames with paintings under way and without.
extends Node

const RUNS = 10
const RUN = 500 # milliseconds

var main
var stopped = 0
var measuring = OS.get_environment("SOFTDIMO_SHOT") == ""
var run = 0
var since = 0
var worst = 0
var last = 0

func _ready():
	Engine.target_fps = 60
	main = get_tree().get_root().get_node_or_null("Main")
	call_deferred("_begin")

func _begin():
	main = get_tree().get_root().get_node("Main")
	main.painter.connect("painted", self, "_on_painted")
	if measuring:
		main.painter.disconnect("painted", main, "_on_painted")

func _on_painted(id, _image):
	if not measuring and id == 10:
		# The demo's own handler may come after this one.
		call_deferred("_stop")
	elif measuring and run % 2 == 0 and run > 0:
		main._paint()

func _stop():
	main.painter.disconnect("painted", main, "_on_painted")
	main.painter.cancel()
	stopped = 1

func _process(_delta):
	if measuring:
		_measure()
	elif stopped > 0:
		stopped += 1
		if stopped == 10:
			var image = get_viewport().get_texture().get_data()
			image.flip_y()
			image.convert(Image.FORMAT_RGBA8)
			image.save_png(OS.get_environment("SOFTDIMO_SHOT"))
			get_tree().quit()

func _measure():
	var now = OS.get_ticks_usec()
	# What came before a run is not the run's.
	if last != 0 and run > 0 and now - since > 100000:
		worst = max(worst, now - last)
	last = now
	if main == null or now - since < RUN * 1000:
		return
	if run > 0:
		print("frames %s: worst %.2f ms" % ["idle" if run % 2 == 1 else "busy", worst / 1000.0])
	if run == 2 * RUNS:
		get_tree().quit()
		return
	main.painter.cancel()
	run += 1
	worst = 0
	since = now
	if run % 2 == 0:
		main._paint()
