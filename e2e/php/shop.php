<?php // An old-style shop: a session, a file, and a response to each request.
session_start();
header('Content-Type: application/json');
if (isset($_POST['user'])) {
    session_regenerate_id(true);
    $_SESSION = ['user' => $_POST['user'], 'cart' => []];
} elseif (isset($_POST['logout'])) {
    session_destroy();
    exit('{}');
}
if (!isset($_SESSION['user'])) {
    http_response_code(401);
    exit('{"error":"not logged in"}');
}
$file = fopen(__DIR__ . '/../stock.json', 'c+');
flock($file, LOCK_EX);
$stock = json_decode(stream_get_contents($file), true) ?: ['tea' => 2, 'coffee' => 5];
if (isset($_POST['item'])) {
    if (empty($stock[$_POST['item']])) {
        http_response_code(409);
        exit('{"error":"sold out"}');
    }
    $stock[$_POST['item']]--;
    $_SESSION['cart'][] = $_POST['item'];
    file_put_contents(__DIR__ . '/../stock.json', json_encode($stock));
}
echo json_encode(['user' => $_SESSION['user'], 'cart' => $_SESSION['cart'], 'stock' => $stock]);
