# A sprite that repaints itself, and one beside it that moves, so that one sees whether frames are late.
extends Node2D

const LABELS = ["red apple", "rocket", "dog", "cat", "skull", "red heart", "crescent moon", "sun", "mushroom"]

var painter = preload("res://addons/softdimo/painter.gdns").new()
var mover = Sprite.new()
var painted = 0

func _ready():
	add_child(painter)
	painter.connect("painted", self, "_on_painted")
	painter.connect("failed", self, "_on_failed")
	add_child(mover)
	# One thread, nicer by 10 than the game's: the defaults.
	var model = "res://addons/softdimo/emoji-32.softdimo.safetensors"
	if not painter.open(ProjectSettings.globalize_path(model)):
		_on_failed(0, painter.get_error())
		return
	_paint()

func _paint():
	if painter.paint(LABELS[painted % LABELS.size()], painted) == 0:
		_on_failed(0, painter.get_error())

func _on_painted(_id, image):
	var texture = ImageTexture.new()
	texture.create_from_image(image, 0)
	$Sprite.texture = texture
	mover.texture = texture
	painted += 1
	_paint()

func _on_failed(_id, why):
	$Label.text = why
	push_error(why)

func _process(_delta):
	var time = OS.get_ticks_msec() / 1000.0
	mover.position = Vector2(320 + 250 * sin(time), 300 + 60 * cos(2 * time))
	if painted > 0:
		$Label.text = "%d painted, %d frames a second" % [painted, Engine.get_frames_per_second()]
