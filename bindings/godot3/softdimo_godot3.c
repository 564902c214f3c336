/* SoftdimoPainter, a node of Godot 3 (GDNative, NativeScript 1.0): see README.md beside this file.
 *
 * Paintings are polled in _process, on the thread that runs the scene; signals are emitted there. The engine and its jobs are freed
 * with the node, which Godot does when the tree goes: before the library is terminated. */

#include <gdnative_api_struct.gen.h>

#include "painter.h"

#define CLASS "SoftdimoPainter"

static const godot_gdnative_core_api_struct *api;
static const godot_gdnative_ext_nativescript_api_struct *script;

/* ---------------------------------------------------------------------------------------------- values */

static godot_string string(const char *utf8) { return api->godot_string_chars_to_utf8(utf8); }

static godot_variant nil(void) {
  godot_variant value;
  api->godot_variant_new_nil(&value);
  return value;
}

static godot_variant boolean(int is) {
  godot_variant value;
  api->godot_variant_new_bool(&value, is != 0);
  return value;
}

static godot_variant integer(int64_t number) {
  godot_variant value;
  api->godot_variant_new_int(&value, number);
  return value;
}

static godot_variant text(const char *utf8) {
  godot_variant value;
  godot_string from = string(utf8);
  api->godot_variant_new_string(&value, &from);
  api->godot_string_destroy(&from);
  return value;
}

/* An argument as UTF-8, to be destroyed. */
static godot_char_string utf8(const godot_variant *value) {
  godot_string from = api->godot_variant_as_string(value);
  godot_char_string bytes = api->godot_string_utf8(&from);
  api->godot_string_destroy(&from);
  return bytes;
}

/* object.method(arguments), which are destroyed. */
static void call(godot_variant *object, const char *method, godot_variant *arguments, int count) {
  const godot_variant *pointers[8];
  godot_variant_call_error error;
  godot_variant result;
  godot_string name = string(method);
  int i;
  for (i = 0; i < count; i++) pointers[i] = &arguments[i];
  result = api->godot_variant_call(object, &name, pointers, count, &error);
  if (error.error != GODOT_CALL_ERROR_CALL_OK) {
    api->godot_print_error("a call of Godot's failed", method, __FILE__, __LINE__);
  }
  api->godot_variant_destroy(&result);
  api->godot_string_destroy(&name);
  for (i = 0; i < count; i++) api->godot_variant_destroy(&arguments[i]);
}

static void emit(godot_object *node, const char *signal, godot_variant *arguments, int count) {
  godot_variant self, all[8];
  api->godot_variant_new_object(&self, node);
  all[0] = text(signal);
  memcpy(all + 1, arguments, (size_t)count * sizeof *arguments);
  call(&self, "emit_signal", all, count + 1);
  api->godot_variant_destroy(&self);
}

static void emit_failed(godot_object *node, int64_t id, const char *why) {
  godot_variant arguments[2];
  arguments[0] = integer(id);
  arguments[1] = text(why);
  emit(node, "failed", arguments, 2);
}

/* An Image with what is painted; 0 if it cannot be read. */
static int image_of(painter *self, const painting *done, godot_variant *image) {
  const int size = (int)(self->width * self->height * 4);
  godot_pool_byte_array bytes;
  godot_pool_byte_array_write_access *access;
  godot_variant arguments[5];
  int read;
  api->godot_pool_byte_array_new(&bytes);
  api->godot_pool_byte_array_resize(&bytes, size);
  access = api->godot_pool_byte_array_write(&bytes);
  read = painter_read(self, done, api->godot_pool_byte_array_write_access_ptr(access), (uint64_t)size);
  api->godot_pool_byte_array_write_access_destroy(access);
  if (read) {
    /* The variant is the image's only reference. */
    api->godot_variant_new_object(image, api->godot_get_class_constructor("Image")());
    arguments[0] = integer(self->width);
    arguments[1] = integer(self->height);
    arguments[2] = boolean(0);
    arguments[3] = integer(5); /* Image.FORMAT_RGBA8 */
    api->godot_variant_new_pool_byte_array(&arguments[4], &bytes);
    call(image, "create_from_data", arguments, 5);
  }
  api->godot_pool_byte_array_destroy(&bytes);
  return read;
}

/* --------------------------------------------------------------------------------------------- methods */

/* Whether there are from `least` to `most` arguments; says so in `error` if not. */
static int counted(painter *self, const char *method, int count, int least, int most) {
  if (count >= least && count <= most) return 1;
  snprintf(self->error, sizeof self->error, "%s: expected %d to %d arguments, found %d", method, least, most, count);
  return 0;
}

static int64_t argument(godot_variant **arguments, int count, int index, int64_t otherwise) {
  return index < count ? api->godot_variant_as_int(arguments[index]) : otherwise;
}

static godot_variant open_model(godot_object *node, void *data, void *user, int count, godot_variant **arguments) {
  painter *self = (painter *)user;
  godot_char_string path;
  int opened;
  (void)node, (void)data;
  if (!counted(self, "open", count, 1, 3)) return boolean(0);
  path = utf8(arguments[0]);
  opened = painter_open(self, api->godot_char_string_get_data(&path), (uint32_t)argument(arguments, count, 1, 1),
                        (int32_t)argument(arguments, count, 2, 10));
  api->godot_char_string_destroy(&path);
  return boolean(opened);
}

/* `data` says whether the first argument is a label or a prompt. */
static godot_variant paint(godot_object *node, void *data, void *user, int count, godot_variant **arguments) {
  painter *self = (painter *)user;
  const int is_prompt = data != NULL;
  godot_char_string what;
  const char *words;
  int64_t id;
  (void)node;
  if (!counted(self, is_prompt ? "paint_prompt" : "paint", count, 1, 3)) return integer(0);
  what = utf8(arguments[0]);
  words = api->godot_char_string_get_data(&what);
  id = painter_paint(self, is_prompt ? NULL : words, is_prompt ? words : NULL, (uint64_t)argument(arguments, count, 1, 0),
                     (uint32_t)argument(arguments, count, 2, 0));
  api->godot_char_string_destroy(&what);
  return integer(id);
}

static godot_variant cancel(godot_object *node, void *data, void *user, int count, godot_variant **arguments) {
  (void)node, (void)data, (void)count, (void)arguments;
  painter_cancel((painter *)user);
  return nil();
}

static godot_variant close_model(godot_object *node, void *data, void *user, int count, godot_variant **arguments) {
  (void)node, (void)data, (void)count, (void)arguments;
  painter_close((painter *)user);
  return nil();
}

static godot_variant is_painting(godot_object *node, void *data, void *user, int count, godot_variant **arguments) {
  (void)node, (void)data, (void)count, (void)arguments;
  return boolean(((painter *)user)->first != NULL);
}

static godot_variant get_error(godot_object *node, void *data, void *user, int count, godot_variant **arguments) {
  (void)node, (void)data, (void)count, (void)arguments;
  return text(((painter *)user)->error);
}

static godot_variant get_size(godot_object *node, void *data, void *user, int count, godot_variant **arguments) {
  godot_vector2 size;
  godot_variant value;
  (void)node, (void)data, (void)count, (void)arguments;
  api->godot_vector2_new(&size, (godot_real)((painter *)user)->width, (godot_real)((painter *)user)->height);
  api->godot_variant_new_vector2(&value, &size);
  return value;
}

static godot_variant get_labels(godot_object *node, void *data, void *user, int count, godot_variant **arguments) {
  painter *self = (painter *)user;
  godot_pool_string_array labels;
  godot_variant value;
  uint32_t i, labelled = 0;
  (void)node, (void)data, (void)count, (void)arguments;
  api->godot_pool_string_array_new(&labels);
  painter_fine(self, softdimo_engine_label_count(self->engine, &labelled));
  for (i = 0; i < labelled; i++) {
    const char *label;
    if (painter_fine(self, softdimo_engine_label(self->engine, i, &label))) {
      godot_string name = string(label);
      api->godot_pool_string_array_append(&labels, &name);
      api->godot_string_destroy(&name);
    }
  }
  api->godot_variant_new_pool_string_array(&value, &labels);
  api->godot_pool_string_array_destroy(&labels);
  return value;
}

static godot_variant process(godot_object *node, void *data, void *user, int count, godot_variant **arguments) {
  painter *self = (painter *)user;
  painter_event event;
  painting *which;
  uint32_t step, total;
  (void)data, (void)count, (void)arguments;
  painter_begin_frame(self);
  while ((event = painter_next(self, &which, &step, &total)) != PAINTER_NOTHING) {
    godot_variant values[3];
    const int64_t id = which->id;
    if (event == PAINTER_PROGRESS) {
      values[0] = integer(id);
      values[1] = integer(step);
      values[2] = integer(total);
      emit(node, "progress", values, 3);
      continue;
    }
    if (event == PAINTER_PAINTED && image_of(self, which, &values[1])) {
      painter_drop(which);
      values[0] = integer(id);
      emit(node, "painted", values, 2);
      continue;
    }
    painter_drop(which);
    emit_failed(node, id, self->error);
  }
  return nil();
}

/* -------------------------------------------------------------------------------------------- the class */

static void *create(godot_object *node, void *data) {
  (void)node, (void)data;
  return calloc(1, sizeof(painter));
}

static void destroy(godot_object *node, void *data, void *user) {
  (void)node, (void)data;
  if (user) painter_close((painter *)user);
  free(user);
}

static void method(void *handle, const char *name, godot_variant (*function)(godot_object *, void *, void *, int, godot_variant **),
                   void *data) {
  godot_instance_method what = {NULL, NULL, NULL};
  godot_method_attributes attributes = {GODOT_METHOD_RPC_MODE_DISABLED};
  what.method = function;
  what.method_data = data;
  script->godot_nativescript_register_method(handle, CLASS, name, attributes, what);
}

static void add_signal(void *handle, const char *name, const char *const *names, const int *types, int count) {
  godot_signal_argument arguments[3];
  godot_signal signal;
  int i;
  memset(arguments, 0, sizeof arguments);
  memset(&signal, 0, sizeof signal);
  signal.name = string(name);
  signal.num_args = count;
  signal.args = arguments;
  for (i = 0; i < count; i++) {
    arguments[i].name = string(names[i]);
    arguments[i].type = types[i];
    arguments[i].hint_string = string("");
    arguments[i].usage = GODOT_PROPERTY_USAGE_DEFAULT;
    arguments[i].default_value = nil();
  }
  script->godot_nativescript_register_signal(handle, CLASS, &signal);
  for (i = 0; i < count; i++) {
    api->godot_string_destroy(&arguments[i].name);
    api->godot_string_destroy(&arguments[i].hint_string);
    api->godot_variant_destroy(&arguments[i].default_value);
  }
  api->godot_string_destroy(&signal.name);
}

void GDN_EXPORT godot_gdnative_init(godot_gdnative_init_options *options) {
  unsigned i;
  api = options->api_struct;
  for (i = 0; i < api->num_extensions; i++) {
    if (api->extensions[i]->type == GDNATIVE_EXT_NATIVESCRIPT) {
      script = (const godot_gdnative_ext_nativescript_api_struct *)api->extensions[i];
    }
  }
}

void GDN_EXPORT godot_gdnative_terminate(godot_gdnative_terminate_options *options) {
  (void)options;
  api = NULL;
  script = NULL;
}

void GDN_EXPORT godot_nativescript_init(void *handle) {
  static const char *const progress[] = {"id", "step", "total"}, *const painted[] = {"id", "image"}, *const failed[] = {"id", "why"};
  static const int numbers[] = {GODOT_VARIANT_TYPE_INT, GODOT_VARIANT_TYPE_INT, GODOT_VARIANT_TYPE_INT};
  static const int object[] = {GODOT_VARIANT_TYPE_INT, GODOT_VARIANT_TYPE_OBJECT};
  static const int words[] = {GODOT_VARIANT_TYPE_INT, GODOT_VARIANT_TYPE_STRING};
  static int prompt;
  godot_instance_create_func creating = {NULL, NULL, NULL};
  godot_instance_destroy_func destroying = {NULL, NULL, NULL};
  creating.create_func = create;
  destroying.destroy_func = destroy;
  script->godot_nativescript_register_class(handle, CLASS, "Node", creating, destroying);
  method(handle, "open", open_model, NULL);
  method(handle, "paint", paint, NULL);
  method(handle, "paint_prompt", paint, &prompt);
  method(handle, "cancel", cancel, NULL);
  method(handle, "close", close_model, NULL);
  method(handle, "is_painting", is_painting, NULL);
  method(handle, "get_error", get_error, NULL);
  method(handle, "get_size", get_size, NULL);
  method(handle, "get_labels", get_labels, NULL);
  method(handle, "_process", process, NULL);
  add_signal(handle, "progress", progress, numbers, 3);
  add_signal(handle, "painted", painted, object, 2);
  add_signal(handle, "failed", failed, words, 2);
}
