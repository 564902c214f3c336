# godot3-server --path PROJECT -s run.gd FOLDER: a picture into FOLDER/picture.png, labels, errors, progress, cancelling.
# With "quit" for FOLDER: ends while a job runs.
extends SceneTree

var painter = load("res://addons/softdimo/painter.gdns").new()
var folder = ""
var model = ProjectSettings.globalize_path("res://addons/softdimo/emoji-32.softdimo.safetensors")
var painted = []
var failed = []
var steps = []
var frames = 0
var stage = 0
var wrong = false

func expect(right, what):
	if not right:
		printerr("expected ", what)
		wrong = true
		quit(1)

func _initialize():
	for argument in OS.get_cmdline_args():
		folder = argument
	get_root().add_child(painter)
	painter.connect("painted", self, "_on_painted")
	painter.connect("failed", self, "_on_failed")
	painter.connect("progress", self, "_on_progress")
	if folder == "quit":
		painter.open(model)
		painter.paint("dog", 1, 10000)
		return
	expect(painter.paint("rocket") == 0 and "NULL" in painter.get_error(), "an error without a model, found " + painter.get_error())
	expect(not painter.open("/nowhere"), "no model at /nowhere")
	expect("'/nowhere' not found" in painter.get_error(), "its error, found " + painter.get_error())
	expect(not painter.open() and "open: expected 1 to 3 arguments, found 0" in painter.get_error(), painter.get_error())
	expect(painter.open(model, 1, 10), painter.get_error())
	expect(painter.get_size() == Vector2(32, 32), "32x32")
	expect(painter.get_labels().size() == 181 and painter.get_labels()[0] == "grinning face", "labels")
	expect(painter.paint("rad apple") == 0 and "red apple" in painter.get_error(), "a suggestion, found " + painter.get_error())
	expect(painter.paint_prompt("an apple") == 0 and "prompt" in painter.get_error(), "no prompts, found " + painter.get_error())
	expect(painter.paint("red apple", 7) == 1, "an id")
	expect(painter.paint("dog", 3, 12) == 2, "the next id")
	expect(painter.is_painting(), "paintings")

func _on_painted(id, image):
	painted.append([id, image])
	# Whatever is done in a signal is fine.
	if id == 2:
		expect(painter.paint("dog", 4, 2000) == 3 and painter.paint("dog", 5) == 4, "ids")

func _on_failed(id, why):
	failed.append([id, why])

func _on_progress(id, step, total):
	steps.append([id, step, total])
	if id == 3:
		painter.cancel()
		stage = 1

func _idle(_delta):
	return _frame()

func _iteration(_delta):
	return false

func _frame():
	frames += 1
	if wrong:
		return false
	if folder == "quit":
		if frames == 5:
			quit(0)
		return false
	if stage == 0:
		expect(frames < 100000, "an end")
		return false
	expect(not painter.is_painting() and failed.empty(), "nothing after cancelling, found " + str(failed))
	expect(painted.size() == 2 and painted[0][0] == 1 and painted[1][0] == 2, "two pictures, found " + str(painted))
	var image = painted[0][1]
	expect(image.get_width() == 32 and image.get_format() == Image.FORMAT_RGBA8, "an image")
	expect(image.save_png(folder + "/picture.png") == OK, "a file")
	expect(steps[-1][0] == 3 and steps[-1][2] > 2000, "progress, found " + str(steps))
	# Closed, opened again, freed with a job under way.
	painter.close()
	expect(painter.get_size() == Vector2(0, 0) and painter.open(model), "the model again")
	expect(painter.paint("dog", 4, 2000) == 5, "ids that go on")
	painter.free()
	print("ok")
	quit(0)
	return true
