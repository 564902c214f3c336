/* SoftdimoPainter, a node of Godot 4.2 and later (GDExtension): see README.md beside this file.
 *
 * Paintings are polled in the node's internal process, on the thread that runs the scene; signals are emitted there. The engine and
 * its jobs are freed with the node. Godot's own methods are called by name, on variants: no hashes of methods but one. */

#include <gdextension_interface.h>

#include "painter.h"

/* ------------------------------------------------------------------------------------------ the interface */

/* Values of Godot's, large enough for builds of either precision. Their addresses are handed on as void *, which is what the
 * interface's pointers are in some editions of the header, while others tell them apart. */
typedef struct variant { uint64_t bytes[5]; } variant;
typedef struct text { uint64_t bytes[1]; } text; /* String, StringName */
typedef struct packed { uint64_t bytes[2]; } packed;

#define FUNCTIONS(X) \
  X(GDExtensionInterfacePrintError, print_error) \
  X(GDExtensionInterfaceVariantNewNil, variant_new_nil) \
  X(GDExtensionInterfaceVariantNewCopy, variant_new_copy) \
  X(GDExtensionInterfaceVariantDestroy, variant_destroy) \
  X(GDExtensionInterfaceVariantCall, variant_call) \
  X(GDExtensionInterfaceVariantGetType, variant_get_type) \
  X(GDExtensionInterfaceGetVariantFromTypeConstructor, get_variant_from_type_constructor) \
  X(GDExtensionInterfaceGetVariantToTypeConstructor, get_variant_to_type_constructor) \
  X(GDExtensionInterfaceVariantGetPtrConstructor, variant_get_ptr_constructor) \
  X(GDExtensionInterfaceVariantGetPtrDestructor, variant_get_ptr_destructor) \
  X(GDExtensionInterfaceVariantGetPtrBuiltinMethod, variant_get_ptr_builtin_method) \
  X(GDExtensionInterfaceStringNewWithUtf8Chars, string_new_with_utf8_chars) \
  X(GDExtensionInterfaceStringToUtf8Chars, string_to_utf8_chars) \
  X(GDExtensionInterfaceStringNameNewWithUtf8Chars, string_name_new_with_utf8_chars) \
  X(GDExtensionInterfacePackedByteArrayOperatorIndex, packed_byte_array_operator_index) \
  X(GDExtensionInterfaceObjectSetInstance, object_set_instance) \
  X(GDExtensionInterfaceClassdbConstructObject, classdb_construct_object) \
  X(GDExtensionInterfaceClassdbRegisterExtensionClass2, classdb_register_extension_class2) \
  X(GDExtensionInterfaceClassdbRegisterExtensionClassMethod, classdb_register_extension_class_method) \
  X(GDExtensionInterfaceClassdbRegisterExtensionClassSignal, classdb_register_extension_class_signal) \
  X(GDExtensionInterfaceClassdbUnregisterExtensionClass, classdb_unregister_extension_class)

static struct {
#define FIELD(type, name) type name;
  FUNCTIONS(FIELD)
#undef FIELD
} api;

static GDExtensionClassLibraryPtr library;

enum { ENTER_TREE = 10, INTERNAL_PROCESS = 25, RGBA8 = 5 };
static const GDExtensionInt RESIZE_HASH = 848867239; /* PackedByteArray.resize, of 4.2 to 4.6 */

/* ---------------------------------------------------------------------------------------------- values */

static text string(const char *utf8) {
  text made;
  api.string_new_with_utf8_chars((void *)&made, utf8);
  return made;
}

static text name(const char *utf8) {
  text made;
  api.string_name_new_with_utf8_chars((void *)&made, utf8);
  return made;
}

static void destroy(GDExtensionVariantType type, void *value) { api.variant_get_ptr_destructor(type)(value); }

/* A variant of a value of Godot's, which is copied. */
static variant variant_of(GDExtensionVariantType type, void *value) {
  variant made;
  api.get_variant_from_type_constructor(type)((void *)&made, value);
  return made;
}

static variant integer(int64_t number) { return variant_of(GDEXTENSION_VARIANT_TYPE_INT, &number); }

static variant boolean(int is) {
  GDExtensionBool value = is != 0;
  return variant_of(GDEXTENSION_VARIANT_TYPE_BOOL, &value);
}

static variant words(const char *utf8) {
  text from = string(utf8);
  variant made = variant_of(GDEXTENSION_VARIANT_TYPE_STRING, &from);
  destroy(GDEXTENSION_VARIANT_TYPE_STRING, &from);
  return made;
}

/* The bytes of a String, to be freed; NULL without memory. */
static char *utf8(const void *from) {
  GDExtensionConstStringPtr text_of = (GDExtensionConstStringPtr)from;
  const GDExtensionInt length = api.string_to_utf8_chars(text_of, NULL, 0);
  char *bytes = (char *)malloc((size_t)length + 1);
  if (bytes) {
    api.string_to_utf8_chars(text_of, bytes, length);
    bytes[length] = 0;
  }
  return bytes;
}

/* object.method(arguments), which are destroyed; what it returns is the caller's. */
static variant call(variant *object, const char *method, variant *arguments, int count) {
  GDExtensionConstVariantPtr pointers[8];
  GDExtensionCallError error = {GDEXTENSION_CALL_OK, 0, 0};
  text called = name(method);
  variant result;
  int i;
  for (i = 0; i < count; i++) pointers[i] = (void *)&arguments[i];
  api.variant_call((void *)object, (void *)&called, pointers, count, (void *)&result, &error);
  if (error.error != GDEXTENSION_CALL_OK) api.print_error("a call of Godot's failed", method, __FILE__, __LINE__, 0);
  destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &called);
  for (i = 0; i < count; i++) api.variant_destroy((void *)&arguments[i]);
  return result;
}

static void call_and_forget(variant *object, const char *method, variant *arguments, int count) {
  variant result = call(object, method, arguments, count);
  api.variant_destroy((void *)&result);
}

/* ---------------------------------------------------------------------------------------------- the node */

typedef struct node {
  painter painter; /* first: a node's painter is the node */
  GDExtensionObjectPtr object;
} node;

static void emit(node *self, const char *signal, variant *arguments, int count) {
  variant object = variant_of(GDEXTENSION_VARIANT_TYPE_OBJECT, &self->object), all[8];
  all[0] = words(signal);
  memcpy(all + 1, arguments, (size_t)count * sizeof *arguments);
  call_and_forget(&object, "emit_signal", all, count + 1);
  api.variant_destroy((void *)&object);
}

/* An Image with what is painted; 0 if it cannot be read. */
static int image_of(painter *self, const painting *done, variant *image) {
  const int64_t size = (int64_t)self->width * self->height * 4;
  GDExtensionConstTypePtr sizes[1];
  packed bytes;
  text method = name("resize"), image_class = name("Image");
  int64_t resized = 0;
  int read;
  sizes[0] = (void *)&size;
  api.variant_get_ptr_constructor(GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY, 0)((void *)&bytes, NULL);
  api.variant_get_ptr_builtin_method(GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY, (void *)&method, RESIZE_HASH)(
      (void *)&bytes, sizes, (void *)&resized, 1);
  read = painter_read(self, done, api.packed_byte_array_operator_index((void *)&bytes, 0), (uint64_t)size);
  if (read) {
    GDExtensionObjectPtr made = api.classdb_construct_object((void *)&image_class);
    variant arguments[5];
    /* The variant is the image's only reference. */
    *image = variant_of(GDEXTENSION_VARIANT_TYPE_OBJECT, &made);
    arguments[0] = integer(self->width);
    arguments[1] = integer(self->height);
    arguments[2] = boolean(0);
    arguments[3] = integer(RGBA8);
    arguments[4] = variant_of(GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY, &bytes);
    call_and_forget(image, "set_data", arguments, 5);
  }
  destroy(GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY, &bytes);
  destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &method);
  destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &image_class);
  return read;
}

static void process(node *self) {
  painter *painting_node = &self->painter;
  painter_event event;
  painting *which;
  uint32_t step, total;
  painter_begin_frame(painting_node);
  while ((event = painter_next(painting_node, &which, &step, &total)) != PAINTER_NOTHING) {
    variant values[3];
    values[0] = integer(which->id);
    if (event == PAINTER_PROGRESS) {
      values[1] = integer(step);
      values[2] = integer(total);
      emit(self, "progress", values, 3);
      continue;
    }
    if (event == PAINTER_PAINTED && image_of(painting_node, which, &values[1])) {
      painter_drop(which);
      emit(self, "painted", values, 2);
      continue;
    }
    painter_drop(which);
    values[1] = words(painting_node->error);
    emit(self, "failed", values, 2);
  }
}

static GDExtensionObjectPtr create_instance(void *data) {
  text parent = name("Node"), own = name("SoftdimoPainter");
  node *self = (node *)calloc(1, sizeof *self);
  GDExtensionObjectPtr object = NULL;
  (void)data;
  if (self) {
    object = self->object = api.classdb_construct_object((void *)&parent);
    api.object_set_instance(object, (void *)&own, (GDExtensionClassInstancePtr)self);
  }
  destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &parent);
  destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &own);
  return object;
}

static void free_instance(void *data, GDExtensionClassInstancePtr instance) {
  (void)data;
  if (instance) painter_close(&((node *)instance)->painter);
  free(instance);
}

static void notification(GDExtensionClassInstancePtr instance, int32_t what, GDExtensionBool reversed) {
  node *self = (node *)instance;
  (void)reversed;
  if (what == ENTER_TREE) {
    variant object = variant_of(GDEXTENSION_VARIANT_TYPE_OBJECT, &self->object), on = boolean(1);
    call_and_forget(&object, "set_process_internal", &on, 1);
    api.variant_destroy((void *)&object);
  } else if (what == INTERNAL_PROCESS) {
    process(self);
  }
}

/* --------------------------------------------------------------------------------------------- methods */

typedef struct arguments {
  const char *text; /* the first, a String */
  int64_t numbers[2];
} arguments;

typedef struct result {
  int64_t number;   /* of bool and int */
  int32_t size[2];  /* of Vector2i */
  const char *text; /* of String, and of PackedStringArray a line each */
  char *allocated;  /* to be freed */
} result;

static void open_model(painter *self, const arguments *given, result *out) {
  out->number = painter_open(self, given->text, (uint32_t)given->numbers[0], (int32_t)given->numbers[1]);
}

static void paint(painter *self, const arguments *given, result *out) {
  out->number = painter_paint(self, given->text, NULL, (uint64_t)given->numbers[0], (uint32_t)given->numbers[1]);
}

static void paint_prompt(painter *self, const arguments *given, result *out) {
  out->number = painter_paint(self, NULL, given->text, (uint64_t)given->numbers[0], (uint32_t)given->numbers[1]);
}

static void cancel(painter *self, const arguments *given, result *out) {
  (void)given, (void)out;
  painter_cancel(self);
}

static void close_model(painter *self, const arguments *given, result *out) {
  (void)given, (void)out;
  painter_close(self);
}

static void is_painting(painter *self, const arguments *given, result *out) {
  (void)given;
  out->number = self->first != NULL;
}

static void get_error(painter *self, const arguments *given, result *out) {
  (void)given;
  out->text = self->error;
}

static void get_size(painter *self, const arguments *given, result *out) {
  (void)given;
  out->size[0] = (int32_t)self->width;
  out->size[1] = (int32_t)self->height;
}

static void get_labels(painter *self, const arguments *given, result *out) {
  uint32_t count = 0, i;
  size_t length = 0;
  const char *label;
  (void)given;
  out->text = "";
  if (!painter_fine(self, softdimo_engine_label_count(self->engine, &count))) return;
  for (i = 0; i < count; i++) {
    if (softdimo_engine_label(self->engine, i, &label) == SOFTDIMO_OK) length += strlen(label) + 1;
  }
  out->allocated = (char *)calloc(length + 1, 1);
  if (!out->allocated) return;
  for (length = 0, i = 0; i < count; i++) {
    if (softdimo_engine_label(self->engine, i, &label) != SOFTDIMO_OK) continue;
    if (length) out->allocated[length++] = '\n';
    strcpy(out->allocated + length, label);
    length += strlen(label);
  }
  out->text = out->allocated;
}

typedef struct method {
  const char *name;
  void (*function)(painter *, const arguments *, result *);
  GDExtensionVariantType returns; /* NIL: nothing */
  int count;                      /* of arguments: none, or a String and two ints */
  const char *names[3];
  int64_t defaults[2]; /* of the ints */
} method;

static const method METHODS[] = {
  {"open", open_model, GDEXTENSION_VARIANT_TYPE_BOOL, 3, {"path", "threads", "niceness"}, {1, 10}},
  {"paint", paint, GDEXTENSION_VARIANT_TYPE_INT, 3, {"label", "seed", "steps"}, {0, 0}},
  {"paint_prompt", paint_prompt, GDEXTENSION_VARIANT_TYPE_INT, 3, {"prompt", "seed", "steps"}, {0, 0}},
  {"cancel", cancel, GDEXTENSION_VARIANT_TYPE_NIL, 0, {NULL, NULL, NULL}, {0, 0}},
  {"close", close_model, GDEXTENSION_VARIANT_TYPE_NIL, 0, {NULL, NULL, NULL}, {0, 0}},
  {"is_painting", is_painting, GDEXTENSION_VARIANT_TYPE_BOOL, 0, {NULL, NULL, NULL}, {0, 0}},
  {"get_error", get_error, GDEXTENSION_VARIANT_TYPE_STRING, 0, {NULL, NULL, NULL}, {0, 0}},
  {"get_size", get_size, GDEXTENSION_VARIANT_TYPE_VECTOR2I, 0, {NULL, NULL, NULL}, {0, 0}},
  {"get_labels", get_labels, GDEXTENSION_VARIANT_TYPE_PACKED_STRING_ARRAY, 0, {NULL, NULL, NULL}, {0, 0}},
};

static variant variant_of_result(GDExtensionVariantType type, const result *from) {
  variant made, separator, all;
  int32_t size[2];
  switch (type) {
    case GDEXTENSION_VARIANT_TYPE_BOOL:
      return boolean(from->number != 0);
    case GDEXTENSION_VARIANT_TYPE_INT:
      return integer(from->number);
    case GDEXTENSION_VARIANT_TYPE_STRING:
      return words(from->text);
    case GDEXTENSION_VARIANT_TYPE_VECTOR2I:
      memcpy(size, from->size, sizeof size);
      return variant_of(type, size);
    case GDEXTENSION_VARIANT_TYPE_PACKED_STRING_ARRAY:
      all = words(from->text);
      separator = words("\n");
      made = call(&all, "split", &separator, 1);
      api.variant_destroy((void *)&all);
      return made;
    default:
      api.variant_new_nil((void *)&made);
      return made;
  }
}

static GDExtensionVariantType argument_type(int index) {
  return index == 0 ? GDEXTENSION_VARIANT_TYPE_STRING : GDEXTENSION_VARIANT_TYPE_INT;
}

/* Called with variants. `returned` is written always; it holds a nil before. */
static void call_method(void *data, GDExtensionClassInstancePtr instance, const GDExtensionConstVariantPtr *values,
                        GDExtensionInt count, GDExtensionVariantPtr returned, GDExtensionCallError *error) {
  const method *what = (const method *)data;
  arguments given = {NULL, {0, 0}};
  result out = {0, {0, 0}, "", NULL};
  char *text_argument = NULL;
  variant value;
  GDExtensionInt i;
  if (count > what->count || (what->count > 0 && count < 1)) {
    error->error = count > what->count ? GDEXTENSION_CALL_ERROR_TOO_MANY_ARGUMENTS : GDEXTENSION_CALL_ERROR_TOO_FEW_ARGUMENTS;
    error->expected = count > what->count ? what->count : 1;
    return;
  }
  for (i = 0; i < count; i++) {
    if (api.variant_get_type(values[i]) != argument_type((int)i)) {
      error->error = GDEXTENSION_CALL_ERROR_INVALID_ARGUMENT;
      error->argument = (int32_t)i;
      error->expected = (int32_t)argument_type((int)i);
      return;
    }
  }
  memcpy(given.numbers, what->defaults, sizeof given.numbers);
  for (i = 0; i < count; i++) {
    GDExtensionTypeFromVariantConstructorFunc from = api.get_variant_to_type_constructor(argument_type((int)i));
    if (i == 0) {
      text path;
      from((void *)&path, (GDExtensionVariantPtr)values[i]);
      text_argument = utf8(&path);
      destroy(GDEXTENSION_VARIANT_TYPE_STRING, &path);
    } else {
      from((void *)&given.numbers[i - 1], (GDExtensionVariantPtr)values[i]);
    }
  }
  given.text = text_argument;
  what->function(&((node *)instance)->painter, &given, &out);
  value = variant_of_result(what->returns, &out);
  /* Godot's variant may be smaller than ours. */
  api.variant_new_copy((void *)returned, (void *)&value);
  api.variant_destroy((void *)&value);
  free(out.allocated);
  free(text_argument);
  error->error = GDEXTENSION_CALL_OK;
}

/* Called with values of the declared types, all of them there. */
static void ptrcall_method(void *data, GDExtensionClassInstancePtr instance, const GDExtensionConstTypePtr *values,
                           GDExtensionTypePtr returned) {
  const method *what = (const method *)data;
  arguments given = {NULL, {0, 0}};
  result out = {0, {0, 0}, "", NULL};
  char *text_argument = NULL;
  if (what->count > 0) {
    text_argument = utf8(values[0]);
    given.numbers[0] = *(const int64_t *)values[1];
    given.numbers[1] = *(const int64_t *)values[2];
  }
  given.text = text_argument;
  what->function(&((node *)instance)->painter, &given, &out);
  if (what->returns == GDEXTENSION_VARIANT_TYPE_BOOL) {
    *(GDExtensionBool *)returned = out.number != 0;
  } else if (what->returns != GDEXTENSION_VARIANT_TYPE_NIL) {
    variant value = variant_of_result(what->returns, &out);
    /* An empty value is there. */
    if (what->returns == GDEXTENSION_VARIANT_TYPE_STRING || what->returns == GDEXTENSION_VARIANT_TYPE_PACKED_STRING_ARRAY) {
      destroy(what->returns, returned);
    }
    api.get_variant_to_type_constructor(what->returns)((void *)returned, (void *)&value);
    api.variant_destroy((void *)&value);
  }
  free(out.allocated);
  free(text_argument);
}

/* ---------------------------------------------------------------------------------------- registration */

/* `PropertyInfo`s with their names. */
typedef struct described {
  text names[4], classes[4], hint;
  GDExtensionPropertyInfo info[4];
  int count;
} described;

static void describe(described *self, GDExtensionVariantType type, const char *called, const char *of_class) {
  const int i = self->count++;
  if (i == 0) self->hint = string("");
  self->names[i] = name(called);
  self->classes[i] = name(of_class);
  memset(&self->info[i], 0, sizeof self->info[i]);
  self->info[i].type = type;
  self->info[i].name = (void *)&self->names[i];
  self->info[i].class_name = (void *)&self->classes[i];
  self->info[i].hint_string = (void *)&self->hint;
  self->info[i].usage = 6; /* PROPERTY_USAGE_DEFAULT */
}

static void forget(described *self) {
  int i;
  for (i = 0; i < self->count; i++) {
    destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &self->names[i]);
    destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &self->classes[i]);
  }
  if (self->count > 0) destroy(GDEXTENSION_VARIANT_TYPE_STRING, &self->hint);
  self->count = 0;
}

static void add_method(text *own, const method *what) {
  GDExtensionClassMethodArgumentMetadata metadata[3] = {
    GDEXTENSION_METHOD_ARGUMENT_METADATA_NONE, GDEXTENSION_METHOD_ARGUMENT_METADATA_INT_IS_INT64,
    GDEXTENSION_METHOD_ARGUMENT_METADATA_INT_IS_INT64};
  GDExtensionClassMethodInfo info;
  GDExtensionVariantPtr pointers[2];
  variant defaults[2];
  described takes, gives;
  text called = name(what->name);
  int i;
  takes.count = gives.count = 0;
  describe(&gives, what->returns, "", "");
  for (i = 0; i < what->count; i++) describe(&takes, argument_type(i), what->names[i], "");
  for (i = 0; i < 2; i++) {
    defaults[i] = integer(what->defaults[i]);
    pointers[i] = (void *)&defaults[i];
  }
  memset(&info, 0, sizeof info);
  info.name = (void *)&called;
  info.method_userdata = (void *)what;
  info.call_func = call_method;
  info.ptrcall_func = ptrcall_method;
  info.method_flags = GDEXTENSION_METHOD_FLAGS_DEFAULT;
  info.has_return_value = what->returns != GDEXTENSION_VARIANT_TYPE_NIL;
  info.return_value_info = &gives.info[0];
  info.argument_count = (uint32_t)what->count;
  info.arguments_info = takes.info;
  info.arguments_metadata = metadata;
  info.default_argument_count = what->count > 0 ? 2 : 0;
  info.default_arguments = pointers;
  api.classdb_register_extension_class_method(library, (void *)own, &info);
  for (i = 0; i < 2; i++) api.variant_destroy((void *)&defaults[i]);
  forget(&takes);
  forget(&gives);
  destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &called);
}

static void add_signal(text *own, const char *signal, described *takes) {
  text called = name(signal);
  api.classdb_register_extension_class_signal(library, (void *)own, (void *)&called, takes->info, takes->count);
  destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &called);
  forget(takes);
}

static void initialize(void *data, GDExtensionInitializationLevel level) {
  text own, parent;
  GDExtensionClassCreationInfo2 info;
  described takes;
  size_t i;
  (void)data;
  if (level != GDEXTENSION_INITIALIZATION_SCENE) return;
  own = name("SoftdimoPainter");
  parent = name("Node");
  memset(&info, 0, sizeof info);
  info.is_exposed = 1;
  info.notification_func = notification;
  info.create_instance_func = create_instance;
  info.free_instance_func = free_instance;
  api.classdb_register_extension_class2(library, (void *)&own, (void *)&parent, &info);
  for (i = 0; i < sizeof METHODS / sizeof *METHODS; i++) add_method(&own, &METHODS[i]);
  takes.count = 0;
  describe(&takes, GDEXTENSION_VARIANT_TYPE_INT, "id", "");
  describe(&takes, GDEXTENSION_VARIANT_TYPE_INT, "step", "");
  describe(&takes, GDEXTENSION_VARIANT_TYPE_INT, "total", "");
  add_signal(&own, "progress", &takes);
  describe(&takes, GDEXTENSION_VARIANT_TYPE_INT, "id", "");
  describe(&takes, GDEXTENSION_VARIANT_TYPE_OBJECT, "image", "Image");
  add_signal(&own, "painted", &takes);
  describe(&takes, GDEXTENSION_VARIANT_TYPE_INT, "id", "");
  describe(&takes, GDEXTENSION_VARIANT_TYPE_STRING, "why", "");
  add_signal(&own, "failed", &takes);
  destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &own);
  destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &parent);
}

static void deinitialize(void *data, GDExtensionInitializationLevel level) {
  text own;
  (void)data;
  if (level != GDEXTENSION_INITIALIZATION_SCENE) return;
  own = name("SoftdimoPainter");
  api.classdb_unregister_extension_class(library, (void *)&own);
  destroy(GDEXTENSION_VARIANT_TYPE_STRING_NAME, &own);
}

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* The entry that softdimo.gdextension names. */
EXPORT GDExtensionBool softdimo_godot4_entry(GDExtensionInterfaceGetProcAddress get, GDExtensionClassLibraryPtr own,
                                             GDExtensionInitialization *out);
GDExtensionBool softdimo_godot4_entry(GDExtensionInterfaceGetProcAddress get, GDExtensionClassLibraryPtr own,
                                      GDExtensionInitialization *out) {
  /* A Godot that lacks a function is older than 4.2: the extension is refused. */
#define LOAD(type, name) \
  if (!(api.name = (type)(void (*)(void))get(#name))) return 0;
  FUNCTIONS(LOAD)
#undef LOAD
  library = own;
  out->minimum_initialization_level = GDEXTENSION_INITIALIZATION_SCENE;
  out->userdata = NULL;
  out->initialize = initialize;
  out->deinitialize = deinitialize;
  return 1;
}
