#include <stdio.h>

int main(int count, char **words) {
    char greeting[80] = "";
    FILE *file = fopen("/greeting.txt", "r");
    if (!file || !fgets(greeting, sizeof greeting, file)) {
        perror("/greeting.txt");
        return 1;
    }
    greeting[sizeof greeting - 1] = 0;
    for (char *end = greeting; *end; end++)
        if (*end == '\n') *end = 0;
    printf("%s, %s\n", greeting, count > 1 ? words[1] : "nobody");
    return 0;
}
