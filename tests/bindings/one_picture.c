/* A C program against an installed library: open the model in argv[1], make one picture, write it to argv[2]. */

#include <softdimo.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char *call, int32_t status) {
    char message[1024];
    softdimo_last_error(message, sizeof message);
    printf("%s: %s: %s\n", call, softdimo_status_name(status), message);
    return 1;
}

/* The picture's bytes, the same value everywhere? */
static int is_constant(const unsigned char *pixels, size_t count) {
    size_t i;
    for (i = 4; i < count; ++i) {
        if (pixels[i] != pixels[i - 4]) {
            return 0;
        }
    }
    return 1;
}

int main(int argc, char **argv) {
    static unsigned char pixels[32 * 32 * 4];
    softdimo_engine *engine = NULL;
    softdimo_request request;
    softdimo_image image;
    int32_t status;
    if (argc != 3) {
        printf("usage: one_picture MODEL PNG\n");
        return 2;
    }
    if ((status = softdimo_engine_open(argv[1], NULL, &engine)) != SOFTDIMO_OK) {
        return failed("softdimo_engine_open", status);
    }
    softdimo_request_init(&request, sizeof request);
    request.label = "red apple";
    request.seed = 7;
    softdimo_image_init(&image, sizeof image);
    image.width = 32;
    image.height = 32;
    image.data = pixels;
    image.capacity = sizeof pixels;
    if ((status = softdimo_generate(engine, &request, &image, 1)) != SOFTDIMO_OK) {
        return failed("softdimo_generate", status);
    }
    if (is_constant(pixels, sizeof pixels)) {
        printf("the picture is one flat colour\n");
        return 1;
    }
    if ((status = softdimo_image_write_png(&image, argv[2], NULL, 0)) != SOFTDIMO_OK) {
        return failed("softdimo_image_write_png", status);
    }
    softdimo_engine_free(engine);
    printf("softdimo %s\n", softdimo_version());
    return 0;
}
