/* What Godot 4 is to bindings/godot4, in little: values, a few objects, and the functions of the interface that the extension
 * asks for, which count what is made and what is destroyed. fake EXTENSION.so MODEL PIXELS: loads the extension as Godot does, looks
 * at what it registers, and uses its node. PIXELS gets the picture of "red apple" with seed 7. */

#define _POSIX_C_SOURCE 200809L
#include <gdextension_interface.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#define EXPECT(what) \
  do { \
    if (!(what)) { \
      printf("line %d: expected %s\n", __LINE__, #what); \
      exit(1); \
    } \
  } while (0)

/* ---------------------------------------------------------------------------------------------- values */

static long texts_alive, variants_alive, arrays_alive, objects_alive;

typedef struct array { uint8_t *data; int64_t size; } array;

typedef struct object {
  char class_name[32];
  int references, processing;
  void *instance;
  int64_t width, height, format;
  array pixels;
} object;

/* As large as Godot's. */
typedef struct variant {
  uint64_t type;
  union { int64_t number; int32_t pair[2]; char *text; object *object; array array; } is;
} variant;
typedef char variant_is_as_large_as_godots[sizeof(variant) == 24 ? 1 : -1];

static char *copy_text(const char *text) {
  char *made = malloc(strlen(text) + 1);
  strcpy(made, text);
  texts_alive++;
  return made;
}

static array copy_array(const array *from) {
  array made;
  made.size = from->size;
  made.data = malloc((size_t)from->size + 1);
  memcpy(made.data, from->data, (size_t)from->size);
  arrays_alive++;
  return made;
}

static void drop_array(array *gone) {
  free(gone->data);
  arrays_alive--;
}

static void drop_object(object *gone) {
  if (strcmp(gone->class_name, "Image") != 0 || --gone->references > 0) return;
  if (gone->pixels.data) drop_array(&gone->pixels);
  free(gone);
  objects_alive--;
}

static void value_from(GDExtensionVariantType type, void *to, const void *from) {
  variant *made = to;
  made->type = (uint64_t)type;
  switch (type) {
    case GDEXTENSION_VARIANT_TYPE_BOOL: made->is.number = *(const GDExtensionBool *)from != 0; break;
    case GDEXTENSION_VARIANT_TYPE_INT: made->is.number = *(const int64_t *)from; break;
    case GDEXTENSION_VARIANT_TYPE_STRING: made->is.text = copy_text(*(char *const *)from); break;
    case GDEXTENSION_VARIANT_TYPE_VECTOR2I: memcpy(made->is.pair, from, 8); break;
    case GDEXTENSION_VARIANT_TYPE_OBJECT:
      made->is.object = *(object *const *)from;
      made->is.object->references++;
      break;
    case GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY:
    case GDEXTENSION_VARIANT_TYPE_PACKED_STRING_ARRAY: made->is.array = copy_array(from); break;
    default: EXPECT(!"a type that is known");
  }
  variants_alive++;
}

static void value_to(GDExtensionVariantType type, void *to, const void *value) {
  const variant *from = value;
  EXPECT(from->type == (uint64_t)type);
  switch (type) {
    case GDEXTENSION_VARIANT_TYPE_INT: *(int64_t *)to = from->is.number; break;
    case GDEXTENSION_VARIANT_TYPE_STRING: *(char **)to = copy_text(from->is.text); break;
    case GDEXTENSION_VARIANT_TYPE_VECTOR2I: memcpy(to, from->is.pair, 8); break;
    case GDEXTENSION_VARIANT_TYPE_PACKED_STRING_ARRAY: *(array *)to = copy_array(&from->is.array); break;
    default: EXPECT(!"a type that is known");
  }
}

/* Constructors know their type. */
#define OF_TYPE(type, name) \
  static void from_##name(GDExtensionUninitializedVariantPtr made, GDExtensionTypePtr from) { value_from(type, made, from); } \
  static void to_##name(GDExtensionUninitializedTypePtr to, GDExtensionVariantPtr from) { value_to(type, to, from); }
OF_TYPE(GDEXTENSION_VARIANT_TYPE_BOOL, bool)
OF_TYPE(GDEXTENSION_VARIANT_TYPE_INT, int)
OF_TYPE(GDEXTENSION_VARIANT_TYPE_STRING, string)
OF_TYPE(GDEXTENSION_VARIANT_TYPE_VECTOR2I, vector2i)
OF_TYPE(GDEXTENSION_VARIANT_TYPE_OBJECT, object)
OF_TYPE(GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY, bytes)
OF_TYPE(GDEXTENSION_VARIANT_TYPE_PACKED_STRING_ARRAY, strings)

#define TYPES(X) \
  X(GDEXTENSION_VARIANT_TYPE_BOOL, bool) X(GDEXTENSION_VARIANT_TYPE_INT, int) X(GDEXTENSION_VARIANT_TYPE_STRING, string) \
  X(GDEXTENSION_VARIANT_TYPE_VECTOR2I, vector2i) X(GDEXTENSION_VARIANT_TYPE_OBJECT, object) \
  X(GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY, bytes) X(GDEXTENSION_VARIANT_TYPE_PACKED_STRING_ARRAY, strings)

static GDExtensionVariantFromTypeConstructorFunc get_variant_from_type_constructor(GDExtensionVariantType type) {
#define CASE(of, name) if (type == of) return from_##name;
  TYPES(CASE)
#undef CASE
  return NULL;
}

static GDExtensionTypeFromVariantConstructorFunc get_variant_to_type_constructor(GDExtensionVariantType type) {
#define CASE(of, name) if (type == of) return to_##name;
  TYPES(CASE)
#undef CASE
  return NULL;
}

static void variant_new_nil(GDExtensionUninitializedVariantPtr made) {
  memset(made, 0, sizeof(variant));
  variants_alive++;
}

static void variant_new_copy(GDExtensionUninitializedVariantPtr made, GDExtensionConstVariantPtr from) {
  const variant *value = (const variant *)from;
  if (value->type == GDEXTENSION_VARIANT_TYPE_NIL) {
    variant_new_nil(made);
  } else {
    value_from((GDExtensionVariantType)value->type, made, &value->is);
  }
}

static void variant_destroy(GDExtensionVariantPtr self) {
  variant *gone = (variant *)self;
  switch (gone->type) {
    case GDEXTENSION_VARIANT_TYPE_STRING:
      free(gone->is.text);
      texts_alive--;
      break;
    case GDEXTENSION_VARIANT_TYPE_OBJECT: drop_object(gone->is.object); break;
    case GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY:
    case GDEXTENSION_VARIANT_TYPE_PACKED_STRING_ARRAY: drop_array(&gone->is.array); break;
    default: break;
  }
  gone->type = 1000;
  variants_alive--;
}

static GDExtensionVariantType variant_get_type(GDExtensionConstVariantPtr self) {
  return (GDExtensionVariantType)((const variant *)self)->type;
}

static void destroy_text(GDExtensionTypePtr self) {
  free(*(char **)self);
  texts_alive--;
}

static void destroy_array(GDExtensionTypePtr self) { drop_array((array *)self); }

static GDExtensionPtrDestructor variant_get_ptr_destructor(GDExtensionVariantType type) {
  switch (type) {
    case GDEXTENSION_VARIANT_TYPE_STRING:
    case GDEXTENSION_VARIANT_TYPE_STRING_NAME: return destroy_text;
    case GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY:
    case GDEXTENSION_VARIANT_TYPE_PACKED_STRING_ARRAY: return destroy_array;
    default: return NULL;
  }
}

static void new_array(GDExtensionUninitializedTypePtr made, const GDExtensionConstTypePtr *arguments) {
  const array nothing = {NULL, 0};
  (void)arguments;
  *(array *)made = nothing;
  ((array *)made)->data = malloc(1);
  arrays_alive++;
}

static GDExtensionPtrConstructor variant_get_ptr_constructor(GDExtensionVariantType type, int32_t which) {
  EXPECT(type == GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY && which == 0);
  return new_array;
}

static void resize(GDExtensionTypePtr self, const GDExtensionConstTypePtr *arguments, GDExtensionTypePtr returned, int count) {
  array *bytes = (array *)self;
  EXPECT(count == 1);
  bytes->size = *(const int64_t *)arguments[0];
  bytes->data = realloc(bytes->data, (size_t)bytes->size + 1);
  *(int64_t *)returned = 0;
}

static GDExtensionPtrBuiltInMethod variant_get_ptr_builtin_method(GDExtensionVariantType type, GDExtensionConstStringNamePtr method,
                                                                 GDExtensionInt hash) {
  EXPECT(type == GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY);
  EXPECT(strcmp(*(char *const *)method, "resize") == 0 && hash == 848867239);
  return resize;
}

static uint8_t *packed_byte_array_operator_index(GDExtensionTypePtr self, GDExtensionInt index) {
  EXPECT(index < ((array *)self)->size);
  return ((array *)self)->data + index;
}

static void string_new_with_utf8_chars(GDExtensionUninitializedStringPtr made, const char *text) { *(char **)made = copy_text(text); }
static void string_name_new_with_utf8_chars(GDExtensionUninitializedStringNamePtr made, const char *text) {
  *(char **)made = copy_text(text);
}

/* As Godot's: without a NUL. */
static GDExtensionInt string_to_utf8_chars(GDExtensionConstStringPtr self, char *text, GDExtensionInt capacity) {
  const char *from = *(char *const *)self;
  const GDExtensionInt length = (GDExtensionInt)strlen(from);
  if (text) memcpy(text, from, (size_t)(length < capacity ? length : capacity));
  return length;
}

static void print_error(const char *description, const char *function, const char *file, int32_t line, GDExtensionBool notify) {
  (void)file, (void)line, (void)notify;
  printf("%s: %s\n", description, function);
  exit(1);
}

/* --------------------------------------------------------------------------------------------- objects */

static GDExtensionObjectPtr classdb_construct_object(GDExtensionConstStringNamePtr class_name) {
  object *made = calloc(1, sizeof *made);
  const char *name = *(char *const *)class_name;
  EXPECT(strcmp(name, "Node") == 0 || strcmp(name, "Image") == 0);
  strcpy(made->class_name, name);
  objects_alive++;
  return (GDExtensionObjectPtr)made;
}

static void object_set_instance(GDExtensionObjectPtr self, GDExtensionConstStringNamePtr class_name,
                                GDExtensionClassInstancePtr instance) {
  EXPECT(strcmp(*(char *const *)class_name, "SoftdimoPainter") == 0);
  ((object *)self)->instance = instance;
}

/* What the node has emitted. */
static int progressed, painted;
static int64_t last_id;
static object picture; /* the first, without its references */

static void on_signal(const variant *const *arguments, int64_t count) {
  const char *signal = arguments[0]->is.text;
  EXPECT(arguments[0]->type == GDEXTENSION_VARIANT_TYPE_STRING && arguments[1]->type == GDEXTENSION_VARIANT_TYPE_INT);
  if (strcmp(signal, "progress") == 0) {
    EXPECT(count == 4 && arguments[2]->is.number <= arguments[3]->is.number);
    progressed++;
    return;
  }
  if (strcmp(signal, "failed") == 0) printf("failed: %s\n", arguments[2]->is.text);
  EXPECT(strcmp(signal, "painted") == 0 && count == 3 && arguments[2]->type == GDEXTENSION_VARIANT_TYPE_OBJECT);
  last_id = arguments[1]->is.number;
  if (painted++ == 0) {
    picture = *arguments[2]->is.object;
    EXPECT(strcmp(picture.class_name, "Image") == 0);
    picture.pixels = copy_array(&picture.pixels);
  }
}

static void variant_call(GDExtensionVariantPtr self, GDExtensionConstStringNamePtr method, const GDExtensionConstVariantPtr *arguments,
                         GDExtensionInt count, GDExtensionUninitializedVariantPtr returned, GDExtensionCallError *error) {
  const char *name = *(char *const *)method;
  const variant *const *given = (const variant *const *)arguments;
  variant *on = (variant *)self;
  error->error = GDEXTENSION_CALL_OK;
  if (on->type == GDEXTENSION_VARIANT_TYPE_STRING && strcmp(name, "split") == 0) {
    array lines;
    EXPECT(count == 1 && strcmp(given[0]->is.text, "\n") == 0);
    lines.data = (uint8_t *)on->is.text;
    lines.size = (int64_t)strlen(on->is.text);
    value_from(GDEXTENSION_VARIANT_TYPE_PACKED_STRING_ARRAY, returned, &lines);
    return;
  }
  variant_new_nil(returned);
  EXPECT(on->type == GDEXTENSION_VARIANT_TYPE_OBJECT);
  if (strcmp(name, "emit_signal") == 0) {
    on_signal(given, count);
  } else if (strcmp(name, "set_process_internal") == 0) {
    EXPECT(count == 1 && given[0]->type == GDEXTENSION_VARIANT_TYPE_BOOL);
    on->is.object->processing = (int)given[0]->is.number;
  } else if (strcmp(name, "set_data") == 0) {
    EXPECT(count == 5 && given[2]->type == GDEXTENSION_VARIANT_TYPE_BOOL && given[4]->type == GDEXTENSION_VARIANT_TYPE_PACKED_BYTE_ARRAY);
    on->is.object->width = given[0]->is.number;
    on->is.object->height = given[1]->is.number;
    on->is.object->format = given[3]->is.number;
    on->is.object->pixels = copy_array(&given[4]->is.array);
  } else {
    error->error = GDEXTENSION_CALL_ERROR_INVALID_METHOD;
  }
}

/* ---------------------------------------------------------------------------------------- registration */

static int registered;
static GDExtensionClassCreationInfo2 node_class;
static struct { char name[32]; GDExtensionClassMethodInfo info; GDExtensionVariantType returns; } methods[32];
static int method_count;
static char signals[256];

static void classdb_register_extension_class2(GDExtensionClassLibraryPtr library, GDExtensionConstStringNamePtr class_name,
                                              GDExtensionConstStringNamePtr parent, const GDExtensionClassCreationInfo2 *info) {
  EXPECT(library == (GDExtensionClassLibraryPtr)&registered);
  EXPECT(strcmp(*(char *const *)class_name, "SoftdimoPainter") == 0 && strcmp(*(char *const *)parent, "Node") == 0);
  EXPECT(info->create_instance_func && info->free_instance_func && info->notification_func && info->is_exposed);
  node_class = *info;
  registered++;
}

static void classdb_register_extension_class_method(GDExtensionClassLibraryPtr library, GDExtensionConstStringNamePtr class_name,
                                                    const GDExtensionClassMethodInfo *info) {
  uint32_t i;
  (void)library, (void)class_name;
  strcpy(methods[method_count].name, *(char **)info->name);
  methods[method_count].info = *info;
  if (info->has_return_value) methods[method_count].returns = info->return_value_info->type;
  EXPECT(info->call_func && info->ptrcall_func && info->default_argument_count <= info->argument_count);
  for (i = 0; i < info->argument_count; i++) EXPECT(strlen(*(char **)info->arguments_info[i].name) > 3);
  for (i = 0; i < info->default_argument_count; i++) {
    EXPECT(((variant *)info->default_arguments[i])->type == GDEXTENSION_VARIANT_TYPE_INT);
  }
  method_count++;
}

static void classdb_register_extension_class_signal(GDExtensionClassLibraryPtr library, GDExtensionConstStringNamePtr class_name,
                                                    GDExtensionConstStringNamePtr signal, const GDExtensionPropertyInfo *arguments,
                                                    GDExtensionInt count) {
  GDExtensionInt i;
  (void)library, (void)class_name;
  strcat(strcat(signals, *(char *const *)signal), "(");
  for (i = 0; i < count; i++) strcat(strcat(signals, *(char **)arguments[i].name), i + 1 < count ? "," : ")");
}

static void classdb_unregister_extension_class(GDExtensionClassLibraryPtr library, GDExtensionConstStringNamePtr class_name) {
  (void)library;
  EXPECT(strcmp(*(char *const *)class_name, "SoftdimoPainter") == 0);
  registered--;
}

static const char *withheld = "";
static GDExtensionInterfaceFunctionPtr get_proc_address(const char *name) {
#define OFFER(function) if (strcmp(name, #function) == 0 && strcmp(name, withheld) != 0) return (GDExtensionInterfaceFunctionPtr)(void (*)(void))function;
  OFFER(print_error) OFFER(variant_new_nil) OFFER(variant_new_copy) OFFER(variant_destroy) OFFER(variant_call) OFFER(variant_get_type)
  OFFER(get_variant_from_type_constructor) OFFER(get_variant_to_type_constructor) OFFER(variant_get_ptr_constructor)
  OFFER(variant_get_ptr_destructor) OFFER(variant_get_ptr_builtin_method) OFFER(string_new_with_utf8_chars)
  OFFER(string_to_utf8_chars) OFFER(string_name_new_with_utf8_chars) OFFER(packed_byte_array_operator_index)
  OFFER(object_set_instance) OFFER(classdb_construct_object) OFFER(classdb_register_extension_class2)
  OFFER(classdb_register_extension_class_method) OFFER(classdb_register_extension_class_signal)
  OFFER(classdb_unregister_extension_class)
#undef OFFER
  return NULL;
}

/* ------------------------------------------------------------------------------------------------ a game */

static GDExtensionCallError call_error;

static int find(const char *name) {
  int i = 0;
  while (i < method_count && strcmp(methods[i].name, name) != 0) i++;
  EXPECT(i < method_count);
  return i;
}

/* node.name(text, numbers...), with variants. */
static variant call(object *node, const char *name, const char *text, const int64_t *numbers, int count) {
  variant arguments[4], result;
  GDExtensionConstVariantPtr pointers[4];
  const GDExtensionClassMethodInfo *info = &methods[find(name)].info;
  int i, total = text ? 1 + count : count;
  if (text) value_from(GDEXTENSION_VARIANT_TYPE_STRING, &arguments[0], &text);
  for (i = 0; i < count; i++) value_from(GDEXTENSION_VARIANT_TYPE_INT, &arguments[text ? i + 1 : i], &numbers[i]);
  for (i = 0; i < total; i++) pointers[i] = (void *)&arguments[i];
  variant_new_nil((void *)&result);
  variants_alive--; /* what is returned takes its place, if anything is */
  info->call_func(info->method_userdata, node->instance, pointers, total, (void *)&result, &call_error);
  if (call_error.error != GDEXTENSION_CALL_OK) variants_alive++;
  for (i = 0; i < total; i++) variant_destroy((void *)&arguments[i]);
  return result;
}

static int64_t number(object *node, const char *name, const char *text, const int64_t *numbers, int count) {
  variant result = call(node, name, text, numbers, count);
  const int64_t is = result.is.number;
  EXPECT(call_error.error == GDEXTENSION_CALL_OK);
  variant_destroy((void *)&result);
  return is;
}

static void expect_error(object *node, const char *words) {
  variant result = call(node, "get_error", NULL, NULL, 0);
  if (!strstr(result.is.text, words)) {
    printf("expected '%s' in '%s'\n", words, result.is.text);
    exit(1);
  }
  variant_destroy((void *)&result);
}

static void frame(object *node) {
  const struct timespec pause = {0, 1000000};
  EXPECT(node->processing);
  node_class.notification_func(node->instance, 25, 0);
  nanosleep(&pause, NULL);
}

static void use(object *node, const char *model, const char *pixels_file) {
  const int64_t options[] = {1, 10}, seed[] = {7}, teacher[] = {3, 12}, long_one[] = {3, 5000}, too_many[] = {1, 2, 3};
  const GDExtensionClassMethodInfo *info;
  GDExtensionConstTypePtr typed[3];
  char *label = "rocket";
  array labels;
  int64_t id = 0;
  int32_t size[2];
  int i, lines = 1;
  variant result;
  FILE *file;

  EXPECT(number(node, "paint", "rocket", NULL, 0) == 0);
  expect_error(node, "NULL");
  EXPECT(number(node, "open", "/nowhere", NULL, 0) == 0);
  expect_error(node, "'/nowhere' not found");
  EXPECT(number(node, "open", model, options, 2) == 1);
  EXPECT(number(node, "paint", "rad apple", NULL, 0) == 0);
  expect_error(node, "red apple");
  EXPECT(number(node, "paint_prompt", "an apple", NULL, 0) == 0);
  expect_error(node, "prompt");
  result = call(node, "paint", "rocket", too_many, 3);
  EXPECT(call_error.error == GDEXTENSION_CALL_ERROR_TOO_MANY_ARGUMENTS && call_error.expected == 3);
  variant_destroy((void *)&result);
  result = call(node, "paint", NULL, seed, 0);
  EXPECT(call_error.error == GDEXTENSION_CALL_ERROR_TOO_FEW_ARGUMENTS);
  variant_destroy((void *)&result);
  result = call(node, "paint", NULL, seed, 1);
  EXPECT(call_error.error == GDEXTENSION_CALL_ERROR_INVALID_ARGUMENT && call_error.expected == GDEXTENSION_VARIANT_TYPE_STRING);
  variant_destroy((void *)&result);

  EXPECT(number(node, "paint", "red apple", seed, 1) == 1);
  EXPECT(number(node, "paint", "dog", teacher, 2) == 2);
  EXPECT(number(node, "is_painting", NULL, NULL, 0) == 1);
  while (painted < 2) frame(node);
  EXPECT(last_id == 2 && progressed > 5 && number(node, "is_painting", NULL, NULL, 0) == 0);
  EXPECT(picture.width == 32 && picture.height == 32 && picture.format == 5 && picture.pixels.size == 4096);
  file = fopen(pixels_file, "wb");
  EXPECT(file && fwrite(picture.pixels.data, 1, 4096, file) == 4096 && fclose(file) == 0);
  drop_array(&picture.pixels);

  /* As typed GDScript calls. */
  info = &methods[find("paint")].info;
  typed[0] = (GDExtensionConstTypePtr)&label;
  typed[1] = (GDExtensionConstTypePtr)&long_one[0];
  typed[2] = (GDExtensionConstTypePtr)&long_one[1];
  info->ptrcall_func(info->method_userdata, node->instance, typed, (GDExtensionTypePtr)&id);
  EXPECT(id == 3);
  info = &methods[find("get_size")].info;
  info->ptrcall_func(info->method_userdata, node->instance, NULL, (GDExtensionTypePtr)size);
  EXPECT(size[0] == 32 && size[1] == 32);
  info = &methods[find("get_labels")].info;
  new_array((GDExtensionUninitializedTypePtr)&labels, NULL);
  info->ptrcall_func(info->method_userdata, node->instance, NULL, (GDExtensionTypePtr)&labels);
  for (i = 0; i < labels.size; i++) lines += labels.data[i] == '\n';
  EXPECT(lines == 181 && memcmp(labels.data, "grinning face\n", 14) == 0);
  drop_array(&labels);
  info = &methods[find("cancel")].info;
  info->ptrcall_func(info->method_userdata, node->instance, NULL, NULL);
  frame(node);
  EXPECT(painted == 2 && number(node, "is_painting", NULL, NULL, 0) == 0);

  result = call(node, "close", NULL, NULL, 0);
  variant_destroy((void *)&result);
  EXPECT(number(node, "open", model, NULL, 0) == 1);
  EXPECT(number(node, "paint", "dog", long_one, 2) == 4);
}

/* A function of a library, which is loaded and stays; ends the program without it. On Windows as Godot does it: what the library
 * needs is looked for in its own folder. */
#if defined(_WIN32)
static void (*load(const char *path, const char *name))(void) {
  wchar_t wide[MAX_PATH], *last;
  HMODULE library;
  EXPECT(MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, MAX_PATH) > 0);
  EXPECT((last = wcsrchr(wide, L'\\')) != NULL);
  *last = 0;
  EXPECT(AddDllDirectory(wide));
  *last = L'\\';
  library = LoadLibraryExW(wide, NULL, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS);
  if (!library) printf("%s: error %lu\n", path, GetLastError());
  EXPECT(library);
  return (void (*)(void))GetProcAddress(library, name);
}
#else
static void (*load(const char *path, const char *name))(void) {
  void (*found)(void);
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) printf("%s\n", dlerror());
  EXPECT(library);
  *(void **)&found = dlsym(library, name);
  return found;
}
#endif

int main(int argc, char **argv) {
  GDExtensionInitializationFunction entry;
  GDExtensionInitialization start;
  object *node;
  int level;
  EXPECT(argc == 4);
  entry = (GDExtensionInitializationFunction)load(argv[1], "softdimo_godot4_entry");
  EXPECT(entry);
  withheld = "classdb_register_extension_class2";
  EXPECT(!entry(get_proc_address, (GDExtensionClassLibraryPtr)&registered, &start));
  withheld = "";
  EXPECT(entry(get_proc_address, (GDExtensionClassLibraryPtr)&registered, &start));
  EXPECT(start.minimum_initialization_level == GDEXTENSION_INITIALIZATION_SCENE);
  for (level = 0; level < GDEXTENSION_MAX_INITIALIZATION_LEVEL; level++) start.initialize(start.userdata, (GDExtensionInitializationLevel)level);
  EXPECT(registered == 1 && method_count == 9);
  EXPECT(strcmp(signals, "progress(id,step,total)painted(id,image)failed(id,why)") == 0);
  EXPECT(methods[find("paint")].info.argument_count == 3 && methods[find("paint")].returns == GDEXTENSION_VARIANT_TYPE_INT);
  EXPECT(texts_alive == 0 && variants_alive == 0);

  node = (object *)node_class.create_instance_func(node_class.class_userdata);
  EXPECT(node && node->instance);
  node_class.notification_func(node->instance, 10, 0);
  use(node, argv[2], argv[3]);
  /* With a job under way. */
  frame(node);
  node_class.free_instance_func(node_class.class_userdata, node->instance);
  free(node);
  objects_alive--;
  for (level = GDEXTENSION_MAX_INITIALIZATION_LEVEL; level-- > 0;) start.deinitialize(start.userdata, (GDExtensionInitializationLevel)level);
  EXPECT(registered == 0);
  if (texts_alive || variants_alive || arrays_alive || objects_alive) {
    printf("left: %ld texts, %ld variants, %ld arrays, %ld objects\n", texts_alive, variants_alive, arrays_alive, objects_alive);
    return 1;
  }
  printf("ok\n");
  return 0;
}
