/* What the nodes of Godot 3 and Godot 4 have in common: an engine, the paintings it has been asked for, and what has become of
 * them since the last frame. One thread: the one that runs the node. Nothing waits, but painter_open (milliseconds), and
 * painter_cancel and painter_close, which wait for a job to notice that it is cancelled. */

#ifndef SOFTDIMO_PAINTER_H
#define SOFTDIMO_PAINTER_H

#include "softdimo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct painting {
  softdimo_job *job;
  int64_t id;
  uint32_t step;     /* the last that was told */
  unsigned frame;    /* in which it was looked at last */
  struct painting *next;
} painting;

typedef struct painter {
  softdimo_engine *engine; /* NULL before painter_open */
  uint32_t width, height;
  painting *first;         /* in the order of their ids */
  int64_t last_id;
  unsigned frame;
  char error[1024];        /* why the last call failed */
} painter;

/* What painter_next found. */
typedef enum painter_event {
  PAINTER_NOTHING,  /* no more in this frame */
  PAINTER_PROGRESS, /* painting, step, total */
  PAINTER_PAINTED,  /* painting: read it, then painter_drop it */
  PAINTER_FAILED    /* painting: painter->error says why; painter_drop it */
} painter_event;

/* 1 if `status` is SOFTDIMO_OK; else 0, with the library's words in `error`. */
static int painter_fine(painter *self, int32_t status) {
  if (status == SOFTDIMO_OK) return 1;
  softdimo_last_error(self->error, sizeof self->error);
  return 0;
}

static void painter_drop(painting *gone) {
  softdimo_job_free(gone->job);
  free(gone);
}

/* Ends and forgets all paintings. */
static void painter_cancel(painter *self) {
  painting *all = self->first, *one;
  self->first = NULL;
  /* All are asked to end before any is waited for. */
  for (one = all; one; one = one->next) softdimo_job_cancel(one->job);
  while ((one = all) != NULL) {
    all = one->next;
    painter_drop(one);
  }
}

static void painter_close(painter *self) {
  painter_cancel(self);
  softdimo_engine_free(self->engine);
  self->engine = NULL;
  self->width = self->height = 0;
}

/* Open the model at a path of the system's, UTF-8; one that was open before is closed. 1, or 0 and an error. */
static int painter_open(painter *self, const char *path, uint32_t threads, int32_t niceness) {
  softdimo_engine_options options;
  softdimo_layout layout;
  painter_close(self);
  if (softdimo_abi_version() >> 16 != (uint32_t)SOFTDIMO_ABI_VERSION >> 16) {
    snprintf(self->error, sizeof self->error, "libsoftdimo: expected one of ABI %u, found one of ABI %u",
             (unsigned)SOFTDIMO_ABI_VERSION >> 16, (unsigned)softdimo_abi_version() >> 16);
    return 0;
  }
  if (!painter_fine(self, softdimo_engine_options_init(&options, sizeof options))) return 0;
  options.threads = threads;
  options.niceness = niceness;
  layout.struct_size = sizeof layout;
  if (!painter_fine(self, softdimo_engine_open(path, &options, &self->engine))) return 0;
  if (!painter_fine(self, softdimo_engine_layout(self->engine, &layout))) {
    painter_close(self);
    return 0;
  }
  self->width = layout.width;
  self->height = layout.height;
  return 1;
}

/* Queue a painting of a label or of a prompt (the other is NULL). Its id, above 0; or 0 and an error. */
static int64_t painter_paint(painter *self, const char *label, const char *prompt, uint64_t seed, uint32_t steps) {
  softdimo_request request;
  painting *added = (painting *)calloc(1, sizeof *added), **end = &self->first;
  if (!added) {
    snprintf(self->error, sizeof self->error, "out of memory");
    return 0;
  }
  if (!painter_fine(self, softdimo_request_init(&request, sizeof request))) goto failed;
  request.label = label;
  request.prompt = prompt;
  request.seed = seed;
  request.steps = steps;
  if (!painter_fine(self, softdimo_submit(self->engine, &request, &added->job))) goto failed;
  added->id = ++self->last_id;
  while (*end) end = &(*end)->next;
  *end = added;
  return added->id;

failed:
  free(added);
  return 0;
}

/* Before the first painter_next of a frame. */
static void painter_begin_frame(painter *self) { self->frame++; }

/* The next thing that has happened; call until PAINTER_NOTHING. What is painted or has failed is the caller's when this returns,
 * and no longer the painter's: whatever is done to the painter between two calls does not matter. */
static painter_event painter_next(painter *self, painting **which, uint32_t *step, uint32_t *total) {
  painting **place = &self->first, *one;
  while ((one = *place) != NULL) {
    softdimo_progress progress;
    int32_t status;
    if (one->frame == self->frame) {
      place = &one->next;
      continue;
    }
    one->frame = self->frame;
    progress.struct_size = sizeof progress;
    status = softdimo_job_progress(one->job, &progress);
    if (status == SOFTDIMO_OK && progress.state != SOFTDIMO_JOB_DONE && progress.state != SOFTDIMO_JOB_FAILED &&
        progress.state != SOFTDIMO_JOB_CANCELLED) {
      if (progress.step == one->step) continue;
      one->step = progress.step;
      *which = one;
      *step = progress.step;
      *total = progress.total;
      return PAINTER_PROGRESS;
    }
    *place = one->next;
    *which = one;
    /* It has ended: this does not wait, and says why there is no picture. */
    if (painter_fine(self, status) && painter_fine(self, softdimo_job_wait(one->job, 0))) return PAINTER_PAINTED;
    return PAINTER_FAILED;
  }
  return PAINTER_NOTHING;
}

/* Copy the pixels of what is painted: RGBA, 8 bits a channel, from the top. 1, or 0 and an error. */
static int painter_read(painter *self, const painting *done, uint8_t *pixels, uint64_t capacity) {
  softdimo_image image;
  if (!painter_fine(self, softdimo_image_init(&image, sizeof image))) return 0;
  image.width = self->width;
  image.height = self->height;
  image.data = pixels;
  image.capacity = capacity;
  return painter_fine(self, softdimo_job_image(done->job, 0, &image));
}

#endif
