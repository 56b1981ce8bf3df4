<?php
// Reads calls as JSON lines, writes links (or "refused") as JSON lines: sign.php under test.
require __DIR__ . '/../../docs/signers/sign.php';
while (($line = fgets(STDIN)) !== false) {
    $call = json_decode($line, true);
    try {
        $answer = sign($call['ring'], $call['key'], $call['exp'], $call['now'], $call['more']);
    } catch (InvalidArgumentException $e) {
        $answer = 'refused';
    }
    echo json_encode($answer, JSON_UNESCAPED_SLASHES), "\n";
}
