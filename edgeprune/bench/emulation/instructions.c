/* A QEMU plugin: how many instructions a guest program executes between two marks.
 *
 * A mark is a system call that Linux does not have, number 0xed9e, with first argument 1 (begin) or 2 (end); the program
 * gets ENOSYS and goes on. For each pair the plugin logs one line, "edgeprune-instructions COUNT" (qemu -d plugin).
 *
 * A translation block is counted with all its instructions when it is entered. Only a fault inside a block would make
 * that too many, and the block of a mark ends with its system call, so that counting starts and stops exactly there.
 * QEMU adds to the one counter without a lock: programs with one busy thread are counted exactly, others are not.
 *
 * Declared here is what is used of QEMU's plugin interface, version 1 (docs/devel/tcg-plugins.rst in its sources): no
 * distribution packages the header.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

typedef void (*translated)(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*called)(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translated callback);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, enum qemu_plugin_op op, void *counter,
                                                     uint64_t amount);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, called callback);
extern void qemu_plugin_outs(const char *text);

#define EXPORT __attribute__((visibility("default")))

enum { MARK = 0xed9e, BEGIN = 1, END = 2 };

static uint64_t executed, begun;
static bool counting;

static void on_block(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &executed, qemu_plugin_tb_n_insns(block));
}

static void on_call(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                    uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    char line[64];
    (void)id, (void)vcpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != MARK)
        return;
    if (a1 == BEGIN) {
        counting = true;
        begun = executed;
    } else if (a1 == END && counting) {
        counting = false;
        snprintf(line, sizeof line, "edgeprune-instructions %llu\n", (unsigned long long)(executed - begun));
        qemu_plugin_outs(line);
    }
}

EXPORT int qemu_plugin_version = 1;

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    return 0;
}
