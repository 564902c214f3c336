/* The header by itself, as C99, C11 and C++17: compiles, can be included twice, every function links, every
 * struct has its size. */

#include "softdimo.h"
#include "softdimo.h"

#include <stddef.h>
#include <stdio.h>

#define SAME(name, a, b) typedef char name[(a) == (b) ? 1 : -1]

SAME(options_size, sizeof(softdimo_engine_options), 96);
SAME(request_size, sizeof(softdimo_request), 280);
SAME(image_size, sizeof(softdimo_image), 48);
SAME(style_size, sizeof(softdimo_picture_style), 80);
SAME(memory_size, sizeof(softdimo_memory), 40);
SAME(progress_size, offsetof(softdimo_progress, waiting_ms), 16);
SAME(layout_size, sizeof(softdimo_layout), 40);
SAME(term_size, sizeof(softdimo_reward_term), 16);
SAME(reward_options_size, sizeof(softdimo_reward_options), 64);
SAME(options_first, offsetof(softdimo_engine_options, struct_size), 0);
SAME(request_first, offsetof(softdimo_request, struct_size), 0);
SAME(style_first, offsetof(softdimo_picture_style, struct_size), 0);
SAME(image_first, offsetof(softdimo_image, struct_size), 0);
SAME(reward_options_first, offsetof(softdimo_reward_options, struct_size), 0);

#define FUNCTION(name) (void (*)(void)) name

int main(void) {
    void (*const functions[])(void) = {
        FUNCTION(softdimo_abi_version),
        FUNCTION(softdimo_version),
        FUNCTION(softdimo_status_name),
        FUNCTION(softdimo_last_error),
        FUNCTION(softdimo_provider_count),
        FUNCTION(softdimo_provider_info),
        FUNCTION(softdimo_engine_options_init),
        FUNCTION(softdimo_engine_options_init_game),
        FUNCTION(softdimo_engine_open),
        FUNCTION(softdimo_engine_open_memory),
        FUNCTION(softdimo_engine_info),
        FUNCTION(softdimo_engine_label_count),
        FUNCTION(softdimo_engine_label),
        FUNCTION(softdimo_engine_memory),
        FUNCTION(softdimo_engine_layout),
        FUNCTION(softdimo_engine_warmup),
        FUNCTION(softdimo_engine_trim),
        FUNCTION(softdimo_engine_tune),
        FUNCTION(softdimo_engine_warmup_request),
        FUNCTION(softdimo_set_memory_budget),
        FUNCTION(softdimo_memory_in_use),
        FUNCTION(softdimo_encode),
        FUNCTION(softdimo_engine_verify),
        FUNCTION(softdimo_engine_free),
        FUNCTION(softdimo_engine_cancel_pending),
        FUNCTION(softdimo_engine_pause),
        FUNCTION(softdimo_engine_resume),
        FUNCTION(softdimo_engine_set_cpu_share),
        FUNCTION(softdimo_engine_open_async),
        FUNCTION(softdimo_opening_progress),
        FUNCTION(softdimo_opening_wait),
        FUNCTION(softdimo_opening_cancel),
        FUNCTION(softdimo_opening_error),
        FUNCTION(softdimo_opening_engine),
        FUNCTION(softdimo_opening_free),
        FUNCTION(softdimo_request_init),
        FUNCTION(softdimo_image_init),
        FUNCTION(softdimo_picture_style_init),
        FUNCTION(softdimo_generate),
        FUNCTION(softdimo_seed),
        FUNCTION(softdimo_submit),
        FUNCTION(softdimo_job_poll),
        FUNCTION(softdimo_job_wait),
        FUNCTION(softdimo_job_cancel),
        FUNCTION(softdimo_job_progress),
        FUNCTION(softdimo_job_image),
        FUNCTION(softdimo_job_image_f32),
        FUNCTION(softdimo_job_tokens),
        FUNCTION(softdimo_job_max_probability),
        FUNCTION(softdimo_job_embedding),
        FUNCTION(softdimo_job_report),
        FUNCTION(softdimo_job_error),
        FUNCTION(softdimo_job_free),
        FUNCTION(softdimo_job_free_all),
        FUNCTION(softdimo_reward_target),
        FUNCTION(softdimo_reward_color),
        FUNCTION(softdimo_reward_prior),
        FUNCTION(softdimo_reward_closeness),
        FUNCTION(softdimo_reward_histogram),
        FUNCTION(softdimo_reward_options_init),
        FUNCTION(softdimo_reward_open),
        FUNCTION(softdimo_reward_open_memory),
        FUNCTION(softdimo_reward_info),
        FUNCTION(softdimo_reward_from_callback),
        FUNCTION(softdimo_reward_free),
        FUNCTION(softdimo_image_write_png),
    };
    size_t i;
    for (i = 0; i < sizeof functions / sizeof functions[0]; ++i) {
        if (functions[i] == NULL) {
            return 1;
        }
    }
    if (softdimo_abi_version() != SOFTDIMO_ABI_VERSION) {
        printf("ABI of the header and of the library differ\n");
        return 1;
    }
    /* The freeing functions take NULL. */
    softdimo_engine_free(NULL);
    softdimo_job_free(NULL);
    softdimo_opening_free(NULL);
    return 0;
}
