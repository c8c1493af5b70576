/*
 * Runs the cases of the table, each in a process of its own, and prints one line for each: number, mark,
 * result, what, and what was seen. Ends with 0 if every case is as the table says.
 *
 *     conformance            all cases
 *     conformance 6 34 62    these
 */
#include "suite.h"

#include "cases.h"

enum { SECONDS_MAX = 60 };

#define D 'D'
#define O 'O'
#define I 'I'
#define TRUE_NOW NULL
#define NOT_YET(why) why

#define CASE(number, mark, state, what) void case_##number(void);
CASES(CASE)
#undef CASE

struct row {
    int number;
    char mark;
    const char *not_yet; /* why, or null if it holds */
    const char *what;
    void (*body)(void);
};

static const struct row table[] = {
#define CASE(number, mark, state, what) {number, mark, state, what, case_##number},
    CASES(CASE)
#undef CASE
};

static const struct row *row_of(int number) {
    size_t index;
    for (index = 0; index < sizeof table / sizeof table[0]; index++)
        if (table[index].number == number) return &table[index];
    fprintf(stderr, "no case %d\n", number);
    exit(2);
}

/* In the case's own process. */
static int run_body(int number) {
    WSADATA data;
    limit_time(SECONDS_MAX);
    if (number != 78) EXPECT_EQUAL(WSAStartup(MAKEWORD(2, 2), &data), 0);
    row_of(number)->body();
    printf("%s\n", what_was_seen());
    return 0;
}

struct tally {
    unsigned passed, failed, not_yet, came_true;
};

static void judge(const struct row *row, struct tally *tally) {
    char number[16], printed[1024], *line = printed, *end;
    const char *arguments[] = {"conformance", "--case", number, NULL}, *result;
    int status;
    snprintf(number, sizeof number, "%d", row->number);
    status = run_program(own_path(), arguments, printed, sizeof printed);
    /* The last line is the case's. */
    while ((end = strchr(line, '\n')) != NULL && end[1] != 0) line = end + 1;
    line[strcspn(line, "\n")] = 0;
    if (status > 1000) snprintf(line, sizeof printed - (size_t)(line - printed), "ended by signal %d", status - 1000);
    if (status == 0 && row->not_yet == NULL) {
        result = "pass";
        tally->passed++;
    } else if (status == 0) {
        result = "TRUE?";
        tally->came_true++;
    } else if (row->not_yet != NULL) {
        result = "not yet";
        tally->not_yet++;
    } else {
        result = "FAIL";
        tally->failed++;
    }
    printf("%3d %c %-7s %s [%s]", row->number, row->mark, result, row->what, line);
    if (row->not_yet != NULL) printf(" (%s)", row->not_yet);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct tally tally = {0, 0, 0, 0};
    size_t index;
    if (argc == 4 && strcmp(argv[1], "--peer") == 0) return peer_main((unsigned)atoi(argv[2]), argv[3]);
    if (argc == 3 && strcmp(argv[1], "--case") == 0) return run_body(atoi(argv[2]));
    if (argc > 1)
        for (index = 1; index < (size_t)argc; index++) judge(row_of(atoi(argv[index])), &tally);
    else
        for (index = 0; index < sizeof table / sizeof table[0]; index++) judge(&table[index], &tally);
    printf("%s: %u cases: %u pass, %u not yet, %u fail, %u came true\n", LANGUAGE,
           tally.passed + tally.not_yet + tally.failed + tally.came_true, tally.passed, tally.not_yet,
           tally.failed, tally.came_true);
    if (tally.came_true > 0) printf("what came true is NOT_YET in cases.h: say TRUE_NOW there\n");
    return tally.failed + tally.came_true > 0;
}
